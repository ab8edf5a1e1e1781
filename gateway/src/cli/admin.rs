//! How a command reaches a running gateway, over its admin API.

use super::Failure;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;
use tidegate_client::wire::ProblemType;
use tidegate_client::{Client, ClientError, RetryPolicy};

/// Options of every command that speaks to a gateway.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The gateway")]
pub(super) struct Admin {
    /// The gateway's inner listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081", global = true)]
    pub(super) inner: String,
    /// Admin token, where the gateway asks for one
    #[arg(long, global = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the admin token (an argument is seen by every user of this machine)
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Admin {
    /// Runs a command to its end.
    pub(super) fn run(&self, call: impl AsyncFnOnce(&Client) -> Result<(), Failure>) -> Result<(), Failure> {
        let client = self.client()?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::start)?;
        runtime.block_on(call(&client))
    }

    fn client(&self) -> Result<Client, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Failure::Usage(format!("cannot read --token-file {}: {error}", path.display()))
                })?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => None,
        };
        // Somebody waits at a terminal: two quick attempts, then say what is wrong.
        let retry = RetryPolicy { attempts_max: 2, ..RetryPolicy::default() };
        let mut builder = Client::builder(&self.inner).retry(retry).request_timeout(Duration::from_secs(30));
        if let Some(token) = token {
            builder = builder.token(token);
        }
        builder.build().map_err(|error| Failure::Usage(format!("--inner: {error}")))
    }
}

/// Asks for `word` at the terminal; an error where nobody can be asked.
pub(super) fn confirmed(what: &str, word: &str) -> Result<bool, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::Usage("this is not a terminal, so nobody can be asked; add --yes".to_owned()));
    }
    let mut terminal = std::io::stderr();
    write!(terminal, "Type {what} to go on: ").and_then(|()| terminal.flush()).map_err(Failure::start)?;
    let mut line = String::new();
    input.lock().read_line(&mut line).map_err(Failure::start)?;
    Ok(line.trim() == word)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let kind = error.problem_type();
        match error {
            ClientError::Problem { .. }
                if matches!(kind, Some(ProblemType::Unauthenticated | ProblemType::Forbidden)) =>
            {
                Self::No(format!("{error}; give the gateway's admin token with --token-file FILE"))
            }
            ClientError::Unavailable { .. } | ClientError::Timeout { .. } => Self::Start(error.to_string()),
            ClientError::Problem { .. }
            | ClientError::Status { .. }
            | ClientError::Decode { .. }
            | ClientError::TooLarge { .. }
            | ClientError::Request { .. }
            | _ => Self::No(error.to_string()),
        }
    }
}
