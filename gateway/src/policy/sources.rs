//! The files of the policies. They are read again every `reload_ms`: a change is taken by all cores when it compiles;
//! when it does not, the present policies go on and the log says why.

use super::{PolicyError, Vm};
use crate::config::PolicySettings;
use crate::state::Core;
use std::io::Read as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing::{error, info};

/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The next version: a core tells by it that its VM is out of date.
static VERSIONS: AtomicU64 = AtomicU64::new(1);

/// All policies of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Rises with each reading in this process: no two readings have the same.
    pub version: u64,
    /// In the order in which they are asked.
    pub scripts: Vec<Script>,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Path of the file, for messages.
    pub name: String,
    /// Lua.
    pub text: String,
}

impl Script {
    /// Reads a file. The error says which and why.
    pub fn read(path: &std::path::Path) -> Result<Self, PolicyError> {
        let name = path.display().to_string();
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        match read {
            Ok(bytes) if bytes as u64 <= FILE_BYTES_MAX => Ok(Self { name, text }),
            Ok(_) => {
                let message = format!("the file has more than {FILE_BYTES_MAX} bytes");
                Err(PolicyError { script: name, message })
            }
            Err(error) => Err(PolicyError { script: name, message: format!("cannot be read: {error}") }),
        }
    }
}

impl Sources {
    /// Reads all files.
    pub fn read(files: &[PathBuf]) -> Result<Self, PolicyError> {
        let scripts = files.iter().map(|file| Script::read(file)).collect::<Result<_, _>>()?;
        Ok(Self { version: VERSIONS.fetch_add(1, Ordering::Relaxed), scripts })
    }

    /// Whether they compile.
    pub fn check(&self, settings: &PolicySettings) -> Result<(), PolicyError> {
        Vm::load(self, &settings.headers, settings.limits).map(drop)
    }
}

/// Follows the files until the gateway stops.
pub(crate) async fn run_reload(core: Rc<Core>) {
    let mut last_error = None;
    let pause = || Duration::from_millis(core.live().config.policy.reload_ms);
    while tokio::time::timeout(pause(), core.app.stopping.wait()).await.is_err() {
        let Some(policies) = core.live().policies.clone() else { continue };
        let present = policies.present();
        let settings = policies.settings().clone();
        let shown = present.clone();
        // A folder on a network may take its time; this thread has other work.
        let read = tokio::task::spawn_blocking(move || {
            let sources = Sources::read(&settings.files)?;
            if sources.scripts != shown.scripts {
                sources.check(&settings)?;
            }
            Ok::<_, PolicyError>(sources)
        });
        match read.await {
            Ok(Ok(sources)) => {
                last_error = None;
                if sources.scripts != present.scripts {
                    info!("policies have changed and are taken");
                    policies.take(sources);
                }
            }
            Ok(Err(error)) => {
                // Once for each mistake, not once for each look.
                if last_error.as_ref() != Some(&error) {
                    policies.count_reload_failure();
                    error!(%error, "a changed policy cannot be taken; the present ones go on");
                    last_error = Some(error);
                }
            }
            Err(_) => error!("the files of the policies could not be looked at"),
        }
    }
}
