//! Who only looks: every block of the volume, by a host that holds nothing.

use host::{Credentials, Initiator, LogicalUnit, Options};

use crate::writer::{BLOCK, BLOCKS, Diary, Stamp};

/// What a host logs in with.
#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) portal: String,
    pub(crate) target: String,
    pub(crate) initiator: String,
    pub(crate) credentials: (String, String),
}

impl Observer {
    /// The volume, through a session of its own.
    pub(crate) async fn unit(&self) -> LogicalUnit {
        let mut options = Options::new(self.initiator.clone(), Some(self.target.clone()));
        let (user, secret) = self.credentials.clone();
        options.chap = Some(Credentials { user, secret });
        let session = Initiator::connect(&self.portal, options).await.unwrap();
        LogicalUnit::open(&session, 0).await.unwrap()
    }

    pub(crate) fn picture(&self) -> Vec<Option<Stamp>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let data = runtime.block_on(async {
            let unit = self.unit().await;
            unit.read(0, BLOCKS.try_into().unwrap()).await.unwrap()
        });
        data.chunks(BLOCK).map(Stamp::read).collect()
    }

    /// Since the picture was taken nothing of another run than the diary's has landed, and what
    /// this run had acknowledged before is there.
    pub(crate) fn check(&self, before: &[Option<Stamp>], diary: &Diary) {
        let now = self.picture();
        assert_eq!(stale(before, &now, diary), None);
        all_there(diary, &now);
    }
}

/// The first block that came to be another run's between two pictures.
pub(crate) fn stale(
    before: &[Option<Stamp>],
    now: &[Option<Stamp>],
    owner: &Diary,
) -> Option<String> {
    let changed = before.iter().zip(now).enumerate().filter(|(_, (old, new))| old != new);
    let wrong = |new: &Option<Stamp>| !new.is_some_and(|stamp| stamp.key == owner.key);
    changed
        .filter(|(_, (_, new))| wrong(new))
        .map(|(lba, (old, new))| format!("block {lba} is stale: {old:?}, then {new:?}"))
        .next()
}

/// What a run had acknowledged before the picture was taken is there.
pub(crate) fn all_there(diary: &Diary, picture: &[Option<Stamp>]) {
    for (_, sequence) in &diary.acknowledged {
        let stamp = picture[usize::try_from(crate::writer::lba_of(*sequence)).unwrap()];
        let kept = stamp.is_some_and(|s| s.key == diary.key && s.sequence >= *sequence);
        assert!(kept, "write {sequence} was acknowledged; its block says {stamp:?}");
    }
}
