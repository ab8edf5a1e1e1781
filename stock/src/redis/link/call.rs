//! What is sent for a call.

use super::script::Script;
use redis::{Cmd, Pipeline};

/// What to run, so that it can be packed again for a repeat.
#[derive(Clone, Copy)]
pub(super) enum Call<'a> {
    Script { script: &'a Script, keys: &'a [&'a str], args: &'a [&'a [u8]] },
    Command(&'a Cmd),
}

/// What is sent in one go.
pub(super) enum Packet<'a> {
    One(Cmd),
    Given(&'a Cmd),
    /// ASKING and the call.
    Asking(Pipeline),
}

impl<'a> Call<'a> {
    /// For messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Script { script, .. } => script.name(),
            Self::Command(_) => "a command",
        }
    }

    /// `with_text`: Redis did not know the script. `asking`: to a node that is about to get the slot.
    pub(super) fn pack(self, with_text: bool, asking: bool) -> Packet<'a> {
        let packet = match self {
            Self::Script { script, keys, args } => Packet::One(evaluation(script, with_text, keys, args)),
            Self::Command(command) => Packet::Given(command),
        };
        if !asking {
            return packet;
        }
        let mut both = Pipeline::with_capacity(2);
        both.cmd("ASKING").add_command(match packet {
            Packet::One(command) => command,
            Packet::Given(command) => command.clone(),
            Packet::Asking(_) => unreachable!("made below"),
        });
        Packet::Asking(both)
    }
}

/// EVALSHA, or EVAL: with its text a script is known to Redis from then on.
fn evaluation(script: &Script, with_text: bool, keys: &[&str], args: &[&[u8]]) -> Cmd {
    let (name, body) = if with_text { ("EVAL", script.text()) } else { ("EVALSHA", script.sha1()) };
    let given =
        keys.iter().map(|key| key.len()).sum::<usize>() + args.iter().map(|arg| arg.len()).sum::<usize>();
    let mut command = Cmd::with_capacity(3 + keys.len() + args.len(), body.len() + given + 16);
    command.arg(name).arg(body).arg(keys.len());
    for key in keys {
        command.arg(*key);
    }
    for arg in args {
        command.arg(*arg);
    }
    command
}
