//! Real small file systems for tests, in a mount namespace of their own: whatever becomes of the test, nothing of it
//! is left on the machine.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const INSIDE: &str = "TIDEGATE_MOUNT_NAMESPACE";

/// What this machine lets a test do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Permitted {
    Nothing,
    /// Memory file systems, in a user namespace.
    Tmpfs,
    /// Loop devices as well.
    Ext4,
}

/// Runs the ignored test `name` of this very binary in a mount namespace. False when the machine permits less than
/// the test needs: the caller must then do the nearest it can, and this has said so.
pub(crate) fn run_inside(name: &str, needs: Permitted) -> bool {
    let permitted = permitted();
    if permitted < needs {
        // Past the capture of the test harness: a run that proves less than another must show it.
        let said = format!(
            "{name}: this machine permits {permitted:?}, {needs:?} is needed; the nearest is tested instead\n"
        );
        let _ = std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes());
        return false;
    }
    let mut command = unshare();
    command.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact", name, "--nocapture"]);
    let status = command.env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "{name} failed in its namespace: {status}");
    true
}

/// For the ignored tests: they mount, so they must not run anywhere else.
pub(crate) fn assert_inside() {
    assert!(std::env::var_os(INSIDE).is_some(), "run by the test of the same name without `inside_`");
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-rm" });
    command
}

fn permitted() -> Permitted {
    let works = |script: &str| {
        let mut command = unshare();
        command.args(["sh", "-ec", script]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let ext4 = "d=$(mktemp -d); truncate -s 8M $d/i; mkfs.ext4 -q -O ^has_journal $d/i; mkdir $d/m; \
                mount -o loop,errors=remount-ro $d/i $d/m; \
                test -w /sys/fs/ext4/$(basename $(findmnt -no SOURCE $d/m))/trigger_fs_error; umount $d/m; rm -r $d";
    if works(ext4) {
        Permitted::Ext4
    } else if works("mount -t tmpfs none /tmp") {
        Permitted::Tmpfs
    } else {
        Permitted::Nothing
    }
}

/// A mounted file system; unmounted when dropped.
pub(crate) struct Mounted {
    point: PathBuf,
    folder: Option<tempfile::TempDir>,
    image: Option<PathBuf>,
}

impl Mounted {
    /// In memory, at a folder of its own.
    pub(crate) fn tmpfs(mib: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Self { point: folder.path().to_owned(), folder: Some(folder), image: None };
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", mounted.point()]);
        mounted
    }

    /// On a loop device, at a folder of its own; its first error makes it read only.
    pub(crate) fn ext4(mib: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mounted = Self::ext4_at(folder.path(), mib);
        mounted.folder = Some(folder);
        mounted
    }

    /// The same at a folder that is there.
    pub(crate) fn ext4_at(point: &Path, mib: u64) -> Self {
        let image =
            tempfile::Builder::new().suffix(".img").tempfile().unwrap().into_temp_path().keep().unwrap();
        File::options().write(true).open(&image).unwrap().set_len(mib << 20).unwrap();
        run("mkfs.ext4", &["-q", "-m", "0", "-O", "^has_journal", image.to_str().unwrap()]);
        let mounted = Self { point: point.to_owned(), folder: None, image: Some(image) };
        mounted.mount();
        mounted
    }

    fn point(&self) -> &str {
        self.point.to_str().unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    fn mount(&self) {
        let image = self.image.as_ref().unwrap().to_str().unwrap();
        run("mount", &["-o", "loop,errors=remount-ro", image, self.point()]);
    }

    /// The file system finds an error and is read only from now on, also for files that are open for writing.
    pub(crate) fn fail(&self) {
        let source = Command::new("findmnt").args(["-no", "SOURCE", self.point()]).output().unwrap().stdout;
        let source = String::from_utf8(source).unwrap();
        let device = Path::new(source.trim()).file_name().unwrap();
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        fs::write(&trigger, "test").unwrap();
        assert!(File::create(self.path().join("probe")).is_err(), "the file system is read only");
    }

    /// Checked and mounted again, as an operator does it. No file of it may be open.
    pub(crate) fn repair(&self) {
        run("umount", &[self.point()]);
        let image = self.image.as_ref().unwrap().to_str().unwrap();
        // 1: errors were corrected.
        let status =
            Command::new("e2fsck").args(["-fy", image]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(matches!(status.unwrap().code(), Some(0 | 1)));
        self.mount();
    }

    /// Takes all the space that is left. Remove the file to give it back.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            let block = vec![7u8; size];
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
        }
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a failed test may hold files open.
        let _ = Command::new("umount").args(["-l", self.point()]).status();
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
