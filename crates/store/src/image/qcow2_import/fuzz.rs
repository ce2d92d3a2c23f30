//! A door for the fuzz targets, which alone build with `cfg(fuzzing)`: the walk of an import over
//! an image in memory, without a volume.

use super::{Cluster, ENTRY_BYTES, HEADER_BYTES, Header, numbers, runs, unpack};

/// What an import would do.
pub struct Walk {
    pub size: u64,
    pub cluster_bytes: u64,
    pub runs: Vec<Run>,
}

/// Neighbouring clusters that are copied as one.
pub struct Run {
    /// In the content, bytes.
    pub start: u64,
    pub length: u64,
    pub content: Content,
}

pub enum Content {
    Zero,
    Data {
        offset: u64,
    },
    /// `unpacked` is a cluster, or none where the stream is damaged.
    Compressed {
        offset: u64,
        packed_bytes: u64,
        unpacked: Option<Vec<u8>>,
    },
}

/// Bytes of the image; zeros behind what there is of it, as reading a file gives them.
fn read(image: &[u8], offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(image.len());
    let count = bytes.len().min(image.len() - from);
    bytes[..count].copy_from_slice(&image[from..from + count]);
    bytes
}

/// Walk over the content up to `most` bytes of it.
///
/// # Errors
/// The sentence with which the image is refused.
pub fn walk(image: &[u8], file_bytes: u64, most: u64) -> Result<Walk, String> {
    let header = Header::parse(&read(image, 0, HEADER_BYTES as u64), file_bytes)?;
    let size = header.size.checked_next_multiple_of(512).unwrap_or(u64::MAX);
    let cluster_bytes = header.cluster_bytes();
    let mut walk = Walk { size, cluster_bytes, runs: Vec::new() };
    let mut start = 0;
    while start < size.min(most) {
        let end = start.saturating_add(header.l2_span()).min(size);
        let entry = header.l1_offset + start / header.l2_span() * ENTRY_BYTES;
        let entry = numbers(&read(image, entry, 8)).next().unwrap_or(0);
        let Some(table) = header.l2_table(entry, file_bytes)? else {
            walk.runs.push(Run { start, length: end - start, content: Content::Zero });
            start = end;
            continue;
        };
        for run in runs(&header, &read(image, table, cluster_bytes), (start, end), file_bytes)? {
            let content = match run.from {
                Cluster::Zero => Content::Zero,
                Cluster::Data(offset) => Content::Data { offset },
                Cluster::Compressed { offset, length } => {
                    let packed = read(image, offset, length);
                    let bytes = usize::try_from(cluster_bytes).unwrap_or(0);
                    // One table can tell of more than the memory holds.
                    let unpacked = if run.start < most { unpack(&packed, bytes) } else { None };
                    let unpacked = unpacked.map(|cluster| cluster.to_vec());
                    Content::Compressed { offset, packed_bytes: length, unpacked }
                }
            };
            walk.runs.push(Run { start: run.start, length: run.length, content });
        }
        start = end;
    }
    Ok(walk)
}
