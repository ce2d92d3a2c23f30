//! Aligned, pooled memory for block I/O.
//!
//! Memory comes in size classes (powers of two from [`ALIGN`] up). A dropped buffer goes to the
//! free list of the thread that drops it, as long as that list is below its limit; so a worker
//! that reads and answers in a loop asks the allocator for nothing.
//!
//! Invariant: memory is initialised once when it is allocated, so a reused buffer can show old
//! block content but never uninitialised memory. Callers fill a buffer before they show it.

// The allocator's interface is unsafe; nothing else in this module is.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;

use bytes::Bytes;

/// Alignment of every buffer, in bytes: what O_DIRECT asks for on the devices that we know.
pub const ALIGN: usize = 4096;

/// Size classes: `ALIGN << 0` to `ALIGN << 10` (4 MiB). Larger buffers are not kept.
const CLASSES: usize = 11;

/// A thread keeps at most this many bytes in its free lists.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// An allocation: aligned, initialised, owned.
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: `Memory` is the only owner of plain bytes; nothing in it is tied to a thread.
unsafe impl Send for Memory {}
// SAFETY: through a shared `Memory` bytes can only be read.
unsafe impl Sync for Memory {}

impl Memory {
    /// `capacity` is a multiple of [`ALIGN`] and not zero.
    fn allocate(capacity: usize) -> Self {
        let layout = layout(capacity);
        // SAFETY: the layout's size is not zero (`class_of` and `rounded` give at least ALIGN).
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Self { start, capacity },
            None => handle_alloc_error(layout),
        }
    }
    fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is valid for `capacity` initialised bytes for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.capacity) }
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `allocate` with this very layout, and freed once.
        unsafe { dealloc(self.start.as_ptr(), layout(self.capacity)) }
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, ALIGN).expect("a buffer is far smaller than isize::MAX")
}

/// The class that holds `length` bytes, and its size; `None` for buffers that are not kept.
fn class_of(length: usize) -> Option<(usize, usize)> {
    let size = length.max(ALIGN).checked_next_power_of_two()?;
    let class = usize::try_from((size / ALIGN).trailing_zeros()).ok()?;
    (class < CLASSES).then_some((class, size))
}

fn rounded(length: usize) -> usize {
    length.max(1).next_multiple_of(ALIGN)
}

/// What one thread keeps for reuse.
#[derive(Default)]
struct FreeLists {
    classes: [Vec<Memory>; CLASSES],
    kept_bytes: usize,
}

impl FreeLists {
    fn take(&mut self, class: usize) -> Option<Memory> {
        let memory = self.classes[class].pop()?;
        self.kept_bytes -= memory.capacity;
        Some(memory)
    }
    /// Gives the memory back where it is not to be kept.
    fn keep(&mut self, memory: Memory) -> Option<Memory> {
        let Some((class, size)) = class_of(memory.capacity) else { return Some(memory) };
        if size != memory.capacity || self.kept_bytes + size > KEPT_BYTES_MAX {
            return Some(memory);
        }
        self.kept_bytes += size;
        self.classes[class].push(memory);
        None
    }
}

thread_local! {
    static FREE: RefCell<FreeLists> = RefCell::default();
}

/// A piece of aligned memory with a length. Comes from and goes back to a free list of the
/// thread that drops it. `into_bytes` hands it on without a copy; it returns to the free list
/// when the last `Bytes` is gone.
pub struct Buffer {
    /// `None` only while being dropped.
    memory: Option<Memory>,
    length: usize,
}

impl Buffer {
    /// A buffer of this length; its content is unspecified but initialised.
    #[must_use]
    pub fn new(length: usize) -> Self {
        let memory = match class_of(length) {
            // A thread that is ending has no free lists any more.
            Some((class, size)) => FREE
                .try_with(|free| free.borrow_mut().take(class))
                .ok()
                .flatten()
                .unwrap_or_else(|| Memory::allocate(size)),
            None => Memory::allocate(rounded(length)),
        };
        Self { memory: Some(memory), length }
    }
    /// Zeros.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        let mut buffer = Self::new(length);
        buffer.fill(0);
        buffer
    }
    /// As immutable shared bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("memory is taken only by drop")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // Either kept, or freed here; on an ending thread the closure does not run and
            // the memory is freed with it.
            let _ = FREE.try_with(move |free| drop(free.borrow_mut().keep(memory)));
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("length", &self.length).finish_non_exhaustive()
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory().bytes()[..self.length]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        let memory = self.memory.as_mut().expect("memory is taken only by drop");
        &mut memory.bytes_mut()[..length]
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGN, Buffer, FREE, KEPT_BYTES_MAX};

    #[test]
    fn every_buffer_is_aligned_and_has_its_length() {
        for length in [0, 1, 511, 4096, 4097, 70_000, 4 << 20, (4 << 20) + 1] {
            let mut buffer = Buffer::new(length);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr() as usize % ALIGN, 0);
            buffer.fill(7);
        }
    }

    #[test]
    fn a_dropped_buffer_is_used_again_even_after_into_bytes() {
        let first = Buffer::new(10_000);
        let place = first.as_ptr();
        let bytes = first.into_bytes();
        let other = bytes.slice(100..200);
        drop(bytes);
        let not_it = Buffer::new(10_000);
        assert_ne!(not_it.as_ptr(), place, "still shared, so not free");
        drop(other);
        assert_eq!(Buffer::new(9_000).as_ptr(), place);
    }

    #[test]
    fn zeroed_is_zero_after_reuse() {
        let mut dirty = Buffer::new(4096);
        dirty.fill(0xff);
        drop(dirty);
        assert!(Buffer::zeroed(4096).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_thread_keeps_a_bounded_number_of_bytes() {
        let many: Vec<Buffer> = (0..20).map(|_| Buffer::new(4 << 20)).collect();
        drop(many);
        let kept = FREE.with(|free| free.borrow().kept_bytes);
        assert!(kept > 0 && kept <= KEPT_BYTES_MAX, "kept {kept}");
    }

    #[test]
    fn a_buffer_may_be_dropped_by_another_thread() {
        let buffer = Buffer::zeroed(8192);
        std::thread::spawn(move || {
            let place = buffer.as_ptr() as usize;
            drop(buffer);
            assert_eq!(Buffer::new(8192).as_ptr() as usize, place);
        })
        .join()
        .unwrap();
    }
}
