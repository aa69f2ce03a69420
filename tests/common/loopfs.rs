//! A small ext4 in a file, loop-mounted: one that can be full, read-only, pulled or cut from power.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::program::{finish, output, require_root, scratch, tool};

/// A mounted file system, unmounted on drop.
pub struct LoopFs {
    directory: TempDir,
}

impl LoopFs {
    /// Makes and mounts a file system of so many MiB.
    #[track_caller]
    pub fn new(mebibytes: u64) -> Self {
        require_root();
        let made = Self {
            directory: scratch(),
        };
        File::create(made.image())
            .unwrap()
            .set_len(mebibytes << 20)
            .unwrap();
        output(
            "mkfs.ext4",
            [
                "-q".as_ref(),
                "-m".as_ref(),
                "0".as_ref(),
                made.image().as_os_str(),
            ],
        );
        std::fs::create_dir(made.path()).unwrap();
        made.mount();
        made
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Mounts it; what its journal holds is replayed.
    #[track_caller]
    pub fn mount(&self) {
        let (image, path) = (self.image(), self.path());
        output(
            "mount",
            [
                "-o".as_ref(),
                "loop".as_ref(),
                image.as_os_str(),
                path.as_os_str(),
            ],
        );
    }

    /// Mounts it again with an option, such as `ro`.
    #[track_caller]
    pub fn remount(&self, option: &str) {
        output(
            "mount",
            [
                "-o",
                &format!("remount,{option}"),
                &self.path().display().to_string(),
            ],
        );
    }

    /// Unmounts it.
    #[track_caller]
    pub fn unmount(&self) {
        // Those who index or watch file systems may have a look at any time.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let done = finish(&mut tool("umount", [self.path()]));
            if done.status == Some(0) {
                return;
            }
            assert!(Instant::now() < deadline, "{done:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Cuts it off at once: nothing that is not on the device yet will be, and every read fails.
    #[track_caller]
    pub fn cut(&self) {
        self.cutter().cut();
    }

    /// Prepares a cut that comes without delay when it is asked for.
    ///
    /// It does what a pulled plug does: ext4's shutdown call, without flushing the log.
    #[track_caller]
    pub fn cutter(&self) -> Cutter {
        let script = "import fcntl, os, struct, sys\n\
                      fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)\n\
                      print('ready', flush=True)\n\
                      sys.stdin.readline()\n\
                      fcntl.ioctl(fd, 0x8004587D, struct.pack('I', 2))\n";
        let mut python = tool("python3", ["-c", script]);
        python
            .arg(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Cutter(child)
    }

    /// Mounts it again after a cut.
    #[track_caller]
    pub fn restore(&self) {
        self.unmount();
        self.mount();
    }

    /// Keeps a copy of what is on it now.
    #[track_caller]
    pub fn save(&self) {
        self.unmount();
        self.copy_image(&self.image(), &self.saved());
        self.mount();
    }

    /// Puts back what was saved.
    #[track_caller]
    pub fn revert(&self) {
        self.unmount();
        self.copy_image(&self.saved(), &self.image());
        self.mount();
    }

    fn saved(&self) -> PathBuf {
        self.directory.path().join("saved")
    }

    #[track_caller]
    fn copy_image(&self, from: &Path, to: &Path) {
        output(
            "cp",
            ["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()],
        );
    }

    /// Enlarges it, unmounted meanwhile: growing a mounted one takes more rights than containers have.
    #[track_caller]
    pub fn grow(&self, mebibytes: u64) {
        self.unmount();
        let image = self.image();
        let file = File::options().write(true).open(&image).unwrap();
        file.set_len(mebibytes << 20).unwrap();
        // Status 1 means that it put something right.
        let checked = finish(tool("e2fsck", ["-fp"]).arg(&image));
        assert!(matches!(checked.status, Some(0 | 1)), "{checked:?}");
        output("resize2fs", [&image]);
        self.mount();
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> u64 {
        used(&self.path())
    }
}

/// Returns the bytes in use on the file system of a path.
pub fn used(path: &Path) -> u64 {
    rustix::fs::sync();
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

/// A cut that waits for its moment.
pub struct Cutter(Child);

impl Cutter {
    /// Cuts now.
    #[track_caller]
    pub fn cut(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}
