//! One job of a ring: what to ask of the kernel, and what to make of its answer.

// Submission entries carry raw addresses; each is argued where it is made.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::task::Waker;

use io_uring::{opcode, squeue, types};

use crate::buffer::Buffer;
use crate::descriptor::{Descriptor, ReadJob, WriteJob, zeros_for};
use crate::pool::PARTS_MAX;

/// The kernel moves a little less than 2 GiB in one call; the rest is continued.
const STEP_BYTES_MAX: usize = 1 << 30;

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

/// What a job ends with.
pub(super) enum Output {
    Buffer(Buffer),
    Nothing,
}

impl Output {
    pub(super) fn buffer(self) -> Option<Buffer> {
        match self {
            Output::Buffer(buffer) => Some(buffer),
            Output::Nothing => None,
        }
    }
    pub(super) fn nothing(self) -> Option<()> {
        matches!(self, Output::Nothing).then_some(())
    }
}

pub(super) enum Job {
    Read(ReadJob),
    Write {
        job: WriteJob,
        /// What the kernel is told; stays until it has answered.
        vectors: Vec<libc::iovec>,
    },
    Sync(Arc<Descriptor>),
    Punch {
        file: Arc<Descriptor>,
        offset: u64,
        length: u64,
    },
}

/// What the kernel's answer means for the job.
pub(super) enum Verdict {
    /// Submit it (again): the rest of a short transfer, or another way to do it.
    Again(Job),
    /// With what is left of the job, to be dropped where that may take time.
    Done(io::Result<Output>, Option<Job>),
}

impl Job {
    pub(super) fn write(job: WriteJob) -> Self {
        Job::Write { job, vectors: Vec::new() }
    }
    /// May it be submitted now? If not, the waker is woken when it may.
    pub(super) fn poll_ready(&self, waker: &Waker) -> bool {
        match self {
            Job::Write { job, .. } => job.poll_ready(waker),
            _ => true,
        }
    }
    pub(super) fn wait_ready(&self) {
        if let Job::Write { job, .. } = self {
            job.wait_ready();
        }
    }
    /// The submission entry for what is still to be done. It holds addresses into this job, so
    /// the job must stay alive, and what it owns where it is, until the completion.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        match self {
            Job::Read(job) => {
                let fd = types::Fd(job.file.fd(job.direct).as_raw_fd());
                let (offset, memory) = job.rest();
                opcode::Read::new(fd, memory.as_mut_ptr(), step(memory.len()))
                    .offset(offset)
                    .build()
            }
            Job::Write { job, vectors } => {
                let fd = types::Fd(job.file.fd(job.is_direct()).as_raw_fd());
                if let [part] = job.rest() {
                    return opcode::Write::new(fd, part.as_ptr(), step(part.len()))
                        .offset(job.offset())
                        .build();
                }
                vectors.clear();
                vectors.extend(job.rest().iter().take(PARTS_MAX).map(|part| libc::iovec {
                    iov_base: part.as_ptr().cast_mut().cast(),
                    iov_len: part.len(),
                }));
                let count = u32::try_from(vectors.len()).unwrap_or(u32::MAX);
                opcode::Writev::new(fd, vectors.as_ptr(), count).offset(job.offset()).build()
            }
            Job::Sync(file) => opcode::Fsync::new(types::Fd(file.cached().as_raw_fd()))
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Job::Punch { file, offset, length } => {
                opcode::Fallocate::new(types::Fd(file.cached().as_raw_fd()), *length)
                    .offset(*offset)
                    .mode(PUNCH)
                    .build()
            }
        }
    }
    /// The kernel answered: bytes moved, or minus an errno.
    pub(super) fn completed(mut self, answer: i32) -> Verdict {
        let Ok(count) = usize::try_from(answer) else {
            return self.failed(-answer);
        };
        match &mut self {
            Job::Read(job) => {
                if !job.advance(count) {
                    return Verdict::Again(self);
                }
            }
            Job::Write { .. } if count == 0 => {
                return Verdict::Done(Err(io::ErrorKind::WriteZero.into()), Some(self));
            }
            Job::Write { job, .. } => {
                if !job.advance(count) {
                    return Verdict::Again(self);
                }
            }
            Job::Sync(_) | Job::Punch { .. } => {}
        }
        match self {
            Job::Read(job) => Verdict::Done(Ok(Output::Buffer(job.finish())), None),
            other => Verdict::Done(Ok(Output::Nothing), Some(other)),
        }
    }
    fn failed(self, errno: i32) -> Verdict {
        match (errno, &self) {
            (libc::EINTR | libc::EAGAIN, _) => Verdict::Again(self),
            (libc::EOPNOTSUPP, Job::Punch { file, offset, length }) => {
                match zeros_for(file, *offset, *length) {
                    Ok(zeros) if zeros.is_empty() => Verdict::Done(Ok(Output::Nothing), Some(self)),
                    Ok(zeros) => {
                        let file = Arc::clone(file);
                        Verdict::Again(Job::write(WriteJob::new(file, *offset, zeros)))
                    }
                    Err(why) => Verdict::Done(Err(why), Some(self)),
                }
            }
            _ => Verdict::Done(Err(io::Error::from_raw_os_error(errno)), Some(self)),
        }
    }
}

fn step(length: usize) -> u32 {
    u32::try_from(length.min(STEP_BYTES_MAX)).expect("STEP_BYTES_MAX is below 4 GiB")
}
