//! Block I/O that does what the test says to writes of chosen files, and the files it knows by name.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use env::{BlockIo, Buffer, Files, IoEngine, IoFile, IoFuture, OpenMode, RealFiles};
use node::BlockIoFactory;
use tokio::sync::watch;

/// What happens to a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Treatment {
    /// It waits until the rules are lifted.
    Hold,
    /// So many bytes of it are written; then it waits.
    Tear(usize),
    /// It ends with this errno.
    Fail(i32),
}

#[derive(Clone, Debug)]
struct Rule {
    fragment: String,
    offsets: Range<u64>,
    treatment: Treatment,
}

/// The rules that all workers of a node obey.
pub(crate) struct Backend {
    paths: Mutex<HashMap<i32, PathBuf>>,
    rules: watch::Sender<Vec<Rule>>,
    waiting: AtomicUsize,
    /// Writes that reached the files.
    landed: AtomicUsize,
}

impl Backend {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            paths: Mutex::default(),
            rules: watch::Sender::new(Vec::new()),
            waiting: AtomicUsize::new(0),
            landed: AtomicUsize::new(0),
        })
    }

    /// Treat writes of files whose path holds `fragment` like this from now on.
    pub(crate) fn treat(&self, fragment: &str, treatment: Treatment) {
        self.treat_at(fragment, 0..u64::MAX, treatment);
    }

    /// The same for writes that start at these byte offsets.
    pub(crate) fn treat_at(&self, fragment: &str, offsets: Range<u64>, treatment: Treatment) {
        let rule = Rule { fragment: fragment.to_owned(), offsets, treatment };
        self.rules.send_modify(|rules| rules.push(rule));
    }

    /// Hold writes of volumes' data.
    pub(crate) fn hold_data(&self) {
        self.treat(".data", Treatment::Hold);
    }

    /// Lift all rules; what was held goes on.
    pub(crate) fn lift(&self) {
        self.rules.send_replace(Vec::new());
    }

    /// Writes that have landed in the files so far.
    pub(crate) fn landed(&self) -> usize {
        self.landed.load(SeqCst)
    }

    /// Returns when at least so many writes are held.
    pub(crate) async fn holds(&self, count: usize) {
        for _ in 0..4000 {
            if self.waiting.load(SeqCst) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} writes are held, not {count}", self.waiting.load(SeqCst));
    }

    /// Makes the block I/O of a worker.
    pub(crate) fn factory(self: &Arc<Self>) -> BlockIoFactory {
        let backend = Arc::clone(self);
        Arc::new(move || {
            let inner = env::block_io(IoEngine::Auto)?;
            Ok(Rc::new(RuledIo { inner, backend: Arc::clone(&backend) }) as Rc<dyn BlockIo>)
        })
    }

    fn treatment(&self, file: &IoFile, offset: u64) -> Option<Treatment> {
        let paths = self.paths.lock().unwrap();
        let path = paths.get(&file.handle())?.to_string_lossy().into_owned();
        let rules = self.rules.borrow();
        let applies =
            |rule: &&Rule| path.contains(&rule.fragment) && rule.offsets.contains(&offset);
        rules.iter().find(applies).map(|rule| rule.treatment)
    }

    async fn lifted(&self) {
        self.waiting.fetch_add(1, SeqCst);
        let mut rules = self.rules.subscribe();
        let _ = rules.wait_for(Vec::is_empty).await;
        self.waiting.fetch_sub(1, SeqCst);
    }
}

struct RuledIo {
    inner: Rc<dyn BlockIo>,
    backend: Arc<Backend>,
}

impl BlockIo for RuledIo {
    fn read(&self, file: &IoFile, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        self.inner.read(file, offset, buffer)
    }

    /// A task of its own, because dropping the future must not recall the write: that is the
    /// promise which a fence has to cope with.
    fn write(&self, file: &IoFile, offset: u64, parts: Vec<Bytes>) -> IoFuture<()> {
        let treatment = self.backend.treatment(file, offset);
        let (inner, backend, file) =
            (Rc::clone(&self.inner), Arc::clone(&self.backend), file.clone());
        let task = tokio::task::spawn_local(async move {
            match treatment {
                Some(Treatment::Fail(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                Some(Treatment::Hold) => backend.lifted().await,
                Some(Treatment::Tear(bytes)) => {
                    let torn = Bytes::from(parts.concat()).slice(..bytes);
                    inner.write(&file, offset, vec![torn]).await?;
                    inner.sync(&file).await?;
                    backend.lifted().await;
                }
                None => {}
            }
            let result = inner.write(&file, offset, parts).await;
            backend.landed.fetch_add(1, SeqCst);
            result
        });
        Box::pin(async move { task.await.map_err(io::Error::other)? })
    }

    fn sync(&self, file: &IoFile) -> IoFuture<()> {
        self.inner.sync(file)
    }

    fn punch(&self, file: &IoFile, offset: u64, length: u64) -> IoFuture<()> {
        self.inner.punch(file, offset, length)
    }
}

/// The machine's files; tells the backend which handle is which path.
pub(crate) struct NamedFiles(pub(crate) Arc<Backend>);

impl Files for NamedFiles {
    fn open(&self, path: &Path, mode: OpenMode, direct: bool) -> io::Result<IoFile> {
        let file = RealFiles.open(path, mode, direct)?;
        self.0.paths.lock().unwrap().insert(file.handle(), path.to_owned());
        Ok(file)
    }
    fn length(&self, file: &IoFile) -> io::Result<u64> {
        RealFiles.length(file)
    }
    fn set_length(&self, file: &IoFile, length: u64) -> io::Result<()> {
        RealFiles.set_length(file, length)
    }
    fn allocated(&self, file: &IoFile) -> io::Result<u64> {
        RealFiles.allocated(file)
    }
    fn next_data(&self, file: &IoFile, offset: u64) -> io::Result<Option<(u64, u64)>> {
        RealFiles.next_data(file, offset)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        RealFiles.list(path)
    }
    fn exists(&self, path: &Path) -> bool {
        RealFiles.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // A file keeps its handle under its new name.
        for path in self.0.paths.lock().unwrap().values_mut().filter(|path| *path == from) {
            path.clone_from(&to.to_owned());
        }
        RealFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.sync_dir(path)
    }
    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        RealFiles.space(path)
    }
    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        RealFiles.lock_dir(path)
    }
}
