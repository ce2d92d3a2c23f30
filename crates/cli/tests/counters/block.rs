//! What a counter's block holds: the sum, and of each writer how often it has added to it.

/// Initiators.
pub(crate) const WRITERS: usize = 16;
/// Bytes of a logical block.
pub(crate) const BYTES: usize = 512;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Block {
    pub(crate) sum: u64,
    /// A writer whose command was never answered reads here whether it landed.
    pub(crate) tags: [u64; WRITERS],
}

impl Block {
    /// The same twice, so that a block that was torn shows.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words = std::iter::once(&self.sum).chain(&self.tags);
        let mut part: Vec<u8> = words.flat_map(|word| word.to_be_bytes()).collect();
        part.resize(BYTES / 2, 0);
        part.repeat(2)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let word = |at: usize| u64::from_be_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap());
        let block = Self { sum: word(0), tags: std::array::from_fn(|writer| word(1 + writer)) };
        if bytes != block.bytes() {
            return Err(format!("a block is torn: {bytes:02x?}"));
        }
        if block.sum != block.tags.iter().sum::<u64>() {
            return Err(format!("a sum is not that of its tags: {block:?}"));
        }
        Ok(block)
    }

    /// The same after one more increment by this writer.
    pub(crate) fn after(&self, writer: usize) -> Self {
        let mut next = self.clone();
        next.sum += 1;
        next.tags[writer] += 1;
        next
    }
}

#[test]
fn a_torn_block_and_a_lost_increment_are_noticed() {
    let block = Block::default().after(3).after(5);
    assert_eq!(Block::parse(&block.bytes()), Ok(block.clone()));
    let mut torn = block.bytes();
    torn[BYTES / 2..].copy_from_slice(&block.after(3).bytes()[BYTES / 2..]);
    assert!(Block::parse(&torn).unwrap_err().contains("torn"));
    let lost = Block { sum: block.sum - 1, ..block };
    assert!(Block::parse(&lost.bytes()).unwrap_err().contains("sum"));
}
