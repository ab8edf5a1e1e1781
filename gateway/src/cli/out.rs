//! What a command prints. A reader who has gone (`tidegate sale list | head -1`) ends nothing: what was asked for is
//! still done, and the exit code still tells how it went.

use super::Failure;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

/// One or more lines on standard output, without the last line end.
pub(super) fn say(text: impl Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Start(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A remark for people, on standard error, which whoever reads the answer as data does not get.
pub(super) fn note(text: impl Display) {
    // Nobody is left who could be told that this failed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Columns of the terminal that standard output is. `None`: it is none, and nothing is to be shortened.
pub(super) fn columns() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}
