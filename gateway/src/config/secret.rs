//! Secrets: inline under `key`, or in the file that `key_file` names; never both.

use super::problem::Place;
use super::reader::Section;
use super::types::Secret;

/// A bearer token. `Ok(None)`: neither is written. `Err`: a problem was told.
pub(super) fn read_secret(
    section: &mut Section<'_, '_>,
    key: &'static str,
    file_key: &'static str,
) -> Result<Option<Secret>, ()> {
    match read_hidden(section, key, file_key)? {
        None => Ok(None),
        Some((key, place, text)) => check(section, key, place, &text).map(Some),
    }
}

/// Any text that must not be shown, with the key that gave it and its place. As [`read_secret`] otherwise.
pub(super) fn read_hidden(
    section: &mut Section<'_, '_>,
    key: &'static str,
    file_key: &'static str,
) -> Result<Option<(&'static str, Place, String)>, ()> {
    let inline = section.text_or(key, None);
    let file = section.text_or(file_key, None);
    Ok(match (inline, file) {
        (None, None) => None,
        (Some(_), Some((_, place))) => {
            let message = format!("{key} and {file_key} are both set");
            section.problem(place, file_key, message, Some("keep one of them".to_owned()));
            return Err(());
        }
        (Some((text, place)), None) => Some((key, place, text)),
        (None, Some((path, place))) => match std::fs::read_to_string(&path) {
            Ok(text) => Some((file_key, place, text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => {
                let help = Some("check the path and that this user may read it".to_owned());
                section.problem(place, file_key, format!("cannot read {path}: {error}"), help);
                return Err(());
            }
        },
    })
}

fn check(section: &mut Section<'_, '_>, key: &'static str, place: Place, text: &str) -> Result<Secret, ()> {
    if text.is_empty() {
        section.problem(place, key, "the token is empty", None);
        return Err(());
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "the token has characters that cannot stand in an Authorization header";
        section.problem(place, key, message, Some("use printable ASCII without spaces".to_owned()));
        return Err(());
    }
    Ok(Secret::new(text))
}
