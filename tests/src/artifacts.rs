//! The binaries under test, built by cargo once per run, in the profile of the running test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The workspace's root.
pub fn workspace_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `tidegate`.
pub fn gateway_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "tidegate", "--bin", "tidegate"], "tidegate"))
}

/// The example worker.
pub fn order_worker_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let what = ["-p", "tidegate-client", "--features", "sqlite", "--example", "order_worker"];
        build(&what, "examples/order_worker")
    })
}

fn build(what: &[&str], file: &str) -> PathBuf {
    // …/target/<profile>/deps/<test>
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo told this test of itself would make build scripts run, and all above them be built, once more.
    let about_the_test = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if about_the_test.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["build", "--quiet", "--profile", profile])
        .args(what)
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .current_dir(workspace_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo build {what:?}: {}", String::from_utf8_lossy(&output.stderr));
    folder.join(file)
}
