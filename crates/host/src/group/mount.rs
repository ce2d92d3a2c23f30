//! The volume's file system, mounted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::guard::group::Step;
use env::{Files, RealFiles, mounts};
use model::group::Fsck;

use super::aside::aside;
use super::home::Way;
use super::steps::Place;

/// Between two looks whether the file system has let go of the device.
const GOING: Duration = Duration::from_millis(50);
/// fsck(8): errors were corrected. Anything above means that they were not, or that a person has
/// to look.
const CORRECTED: i32 = 1;

pub(super) struct Mount<'a> {
    pub(super) path: &'a Path,
    pub(super) file_system: &'a str,
    pub(super) options: &'a [String],
    pub(super) fsck: Fsck,
}

impl Mount<'_> {
    pub(super) async fn perform(&self, place: &Place, step: Step) -> Result<(), String> {
        match step {
            Step::Start => self.start(place, device(&place.way)?).await,
            Step::Check => self.check(device(&place.way)?).await,
            Step::Stop => {
                let Some(mounted) = self.mounted().await? else { return Ok(()) };
                place.call(&["umount", &self.text()]).await?;
                let_go(place, mounted.source.into()).await
            }
            Step::Kill => self.kill(place).await,
        }
    }

    fn text(&self) -> String {
        self.path.display().to_string()
    }

    async fn mounted(&self) -> Result<Option<mounts::Mounted>, String> {
        let path = self.path.to_path_buf();
        let mounted = aside(move || mounts::at(&path)).await?;
        mounted.map_err(|why| format!("the list of mounts cannot be read: {why}"))
    }

    async fn start(&self, place: &Place, device: &Path) -> Result<(), String> {
        if self.mounted().await?.is_some() {
            return Err(format!("something is mounted at {} already", self.path.display()));
        }
        if is_in_use(device.to_path_buf()).await? {
            return Err(format!(
                "{} is in use on this host already: is its file system mounted elsewhere?",
                device.display()
            ));
        }
        RealFiles
            .create_dir(self.path)
            .map_err(|why| format!("{} cannot be made: {why}", self.path.display()))?;
        let name = device.display().to_string();
        if self.fsck != Fsck::Never {
            let mut line = vec!["fsck", "-T", "-t", self.file_system, &name, "-p"];
            if self.fsck == Fsck::Force {
                line.push("-f");
            }
            let line: Vec<String> = line.into_iter().map(str::to_owned).collect();
            let fsck = place.tool(&line);
            match fsck.run(&place.abort).await? {
                0 | CORRECTED => {}
                code => return Err(fsck.failed_with(code)),
            }
        }
        let options = self.options.join(",");
        let mut line = vec!["mount", "-t", self.file_system];
        if !options.is_empty() {
            line.extend(["-o", &options]);
        }
        let text = self.text();
        line.extend([&*name, &*text]);
        place.call(&line).await
    }

    async fn check(&self, device: &Path) -> Result<(), String> {
        let path = self.path.display();
        let mounted =
            self.mounted().await?.ok_or_else(|| format!("nothing is mounted at {path}"))?;
        if !is_same(Path::new(&mounted.source), device) {
            return Err(format!("{} is mounted at {path}, which is another", mounted.source));
        }
        let wants_to_read = self.options.iter().any(|option| option == "ro");
        let (at, source) = (self.path.to_path_buf(), PathBuf::from(mounted.source));
        let is_shut =
            mounted.read_only || aside(move || mounts::has_given_up(&at, &source)).await?;
        if is_shut && !wants_to_read {
            return Err(format!("the kernel lets nobody write at {path} any more"));
        }
        Ok(())
    }

    /// What was not written yet fails at the target, which knows that this host is out. Nothing
    /// here needs a way to the volume.
    async fn kill(&self, place: &Place) -> Result<(), String> {
        let mounted = self.mounted().await?.map(|mounted| PathBuf::from(mounted.source));
        let known = device(&place.way).ok().map(Path::to_path_buf);
        let path = self.path.to_path_buf();
        let detached = aside(move || mounts::detach(&path)).await?;
        detached.map_err(|why| format!("{}: {why}", self.path.display()))?;
        match mounted.or(known) {
            Some(device) => let_go(place, device).await,
            None => Ok(()),
        }
    }
}

/// A device that is gone has no file system in use.
async fn is_in_use(device: PathBuf) -> Result<bool, String> {
    aside(move || mounts::is_in_use(&device).unwrap_or(false)).await
}

/// A file system goes on in the kernel as long as a program, or another list of mounts, has it.
async fn let_go(place: &Place, device: PathBuf) -> Result<(), String> {
    let gone = async {
        while is_in_use(device.clone()).await? {
            tokio::time::sleep(GOING).await;
        }
        Ok(())
    };
    tokio::select! {
        gone = gone => gone,
        () = place.abort.notified() => Err(format!("something still uses {}", device.display())),
    }
}

fn device(way: &Way) -> Result<&Path, String> {
    match way {
        Way::Device { path } | Way::Map { gate: path, .. } => Ok(path),
        Way::Portal { .. } => Err("this host has no device of the volume".to_owned()),
        Way::Nowhere { why } => Err(why.clone()),
    }
}

/// Names of devices are links, mostly.
fn is_same(left: &Path, right: &Path) -> bool {
    left == right
        || mounts::real_path(left).is_some_and(|one| mounts::real_path(right) == Some(one))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::process::Command;
    use std::sync::Arc;

    use env::processes::Family;

    use super::*;

    fn run(line: &[&str]) -> String {
        let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A block device that is a file.
    struct Loop {
        home: tempfile::TempDir,
        device: PathBuf,
    }

    impl Loop {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let image = home.path().join("image");
            File::create(&image).unwrap().set_len(32 << 20).unwrap();
            let image = image.display().to_string();
            run(&["mkfs.ext4", "-q", &image]);
            let device = run(&["losetup", "--find", "--show", &image]).into();
            Self { home, device }
        }

        fn place(&self) -> Place {
            Place {
                index: 0,
                log: self.home.path().join("log"),
                way: Way::Device { path: self.device.clone() },
                environment: Vec::new(),
                family: Family::new("COMMONHOLD_TEST=none".to_owned(), None),
                unborn: crate::group::program::Unborn::default(),
                abort: Arc::default(),
            }
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = mounts::detach(&self.home.path().join("mnt"));
            let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
        }
    }

    #[tokio::test]
    async fn a_file_system_is_mounted_and_taken_away_and_one_in_use_is_said_to_be_left() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: nothing can be mounted");
            return;
        }
        let disk = Loop::new();
        let path = disk.home.path().join("mnt");
        let options = ["noatime".to_owned()];
        let fsck = Fsck::Force;
        let mount = Mount { path: &path, file_system: "ext4", options: &options, fsck };
        let place = disk.place();
        assert!(mount.perform(&place, Step::Check).await.unwrap_err().contains("nothing"));
        mount.perform(&place, Step::Start).await.unwrap();
        mount.perform(&place, Step::Check).await.unwrap();
        assert!(mount.perform(&place, Step::Start).await.unwrap_err().contains("already"));
        fs::write(path.join("file"), "of the owner").unwrap();
        let open = File::open(path.join("file")).unwrap();
        let busy = mount.perform(&place, Step::Stop).await.unwrap_err();
        assert!(busy.contains("umount ended with exit code 32"), "{busy}");
        // By force, and by the time that is over something still has it; a way is not needed.
        let why = "the portal is gone".to_owned();
        let lost = Place { way: Way::Nowhere { why }, ..disk.place() };
        lost.abort.notify_one();
        let held = mount.perform(&lost, Step::Kill).await.unwrap_err();
        assert!(held.contains("still uses"), "{held}");
        assert!(mount.perform(&place, Step::Start).await.unwrap_err().contains("in use"));
        place.abort.notify_one();
        let stuck = mount.perform(&place, Step::Kill).await.unwrap_err();
        assert!(stuck.contains("still uses"), "{stuck}");
        assert_eq!(mounts::at(&path).unwrap(), None);
        drop(open);
        mount.perform(&place, Step::Kill).await.unwrap();
        mount.perform(&place, Step::Start).await.unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "of the owner");
        run(&["mount", "-o", "remount,ro", &path.display().to_string()]);
        assert!(mount.perform(&place, Step::Check).await.unwrap_err().contains("nobody write"));
        mount.perform(&place, Step::Stop).await.unwrap();
        mount.perform(&place, Step::Stop).await.unwrap();
        run(&[
            "dd",
            "if=/dev/urandom",
            "bs=1M",
            "count=8",
            "conv=notrunc",
            "status=none",
            &format!("of={}", disk.device.display()),
        ]);
        let broken = mount.perform(&place, Step::Start).await.unwrap_err();
        assert!(broken.contains("fsck") || broken.contains("mount"), "{broken}");
    }

    #[tokio::test]
    async fn a_file_system_that_gave_up_was_taken_for_writable() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: nothing can be mounted");
            return;
        }
        for errors in ["errors=continue", "errors=remount-ro"] {
            let disk = Loop::new();
            let path = disk.home.path().join("mnt");
            let (options, fsck) = ([errors.to_owned()], Fsck::Preen);
            let mount = Mount { path: &path, file_system: "ext4", options: &options, fsck };
            let place = disk.place();
            mount.perform(&place, Step::Start).await.unwrap();
            mount.perform(&place, Step::Check).await.unwrap();
            assert!(!mounts::has_given_up(&path, &disk.device));
            // As after a write of its journal that failed.
            run(&["mount", "-o", "remount,abort", &path.display().to_string()]);
            assert!(mounts::has_given_up(&path, &disk.device));
            assert!(mount.perform(&place, Step::Check).await.unwrap_err().contains("nobody write"));
            // A restart of the resource mends it.
            mount.perform(&place, Step::Stop).await.unwrap();
            mount.perform(&place, Step::Start).await.unwrap();
            mount.perform(&place, Step::Check).await.unwrap();
            mount.perform(&place, Step::Stop).await.unwrap();
        }
    }
}
