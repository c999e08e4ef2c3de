//! The part of the ZIP format that PyTorch writes: stored records, found by the directory at the end.
//!
//! Records are handed out as slices of the file, so that nothing is unpacked or copied.

use super::shown;
use std::collections::BTreeMap;

/// Bytes of the end record, and the longest comment behind it.
const END: usize = 22;
const COMMENT: usize = 0xffff;

struct Record {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    header: u64,
    checked: bool,
}

pub(super) struct Zip<'a> {
    bytes: &'a [u8],
    records: BTreeMap<&'a str, Record>,
    /// Bytes of the records whose check sum was computed.
    summed: usize,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

/// The bytes from `at` on, of a place that the file names.
fn from(bytes: &[u8], at: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(at).ok()?..)
}

impl<'a> Zip<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, String> {
        let records = directory(bytes).ok_or("a zip archive without a directory at its end: damaged or cut short")?;
        Ok(Self { bytes, records, summed: 0 })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.records.keys().copied()
    }

    /// The content of a record, `None` if there is no such record.
    pub(super) fn get(&mut self, name: &str) -> Result<Option<&'a [u8]>, String> {
        let Some(record) = self.records.get_mut(name) else { return Ok(None) };
        let unfit = |what: &str| format!("record {}: {what}", shown(name));
        if record.flags & 1 != 0 {
            return Err(unfit("encrypted"));
        }
        if record.method != 0 || record.packed != record.size {
            return Err(unfit("compressed, which torch.save does not do; save it with PyTorch again"));
        }
        let content = content(self.bytes, record).ok_or_else(|| unfit("outside the file: damaged or cut short"))?;
        if !record.checked {
            // Records that share bytes would make this as slow as the file likes.
            self.summed = self.summed.saturating_add(content.len());
            if self.summed > self.bytes.len() {
                return Err(unfit("overlaps other records"));
            }
            // PyTorch can be told to leave the sum out.
            if record.crc != 0 && crc32fast::hash(content) != record.crc {
                return Err(unfit("its check sum is wrong: the file is damaged"));
            }
            record.checked = true;
        }
        Ok(Some(content))
    }
}

/// What is behind the record's own header, whose name and extra field may differ in length from the directory's.
fn content<'a>(bytes: &'a [u8], record: &Record) -> Option<&'a [u8]> {
    let header = from(bytes, record.header)?;
    if !header.starts_with(b"PK\x03\x04") {
        return None;
    }
    let start = 30 + usize::from(u16_at(header, 26)?) + usize::from(u16_at(header, 28)?);
    header.get(start..)?.get(..usize::try_from(record.size).ok()?)
}

/// Place of the directory and the number of records in it.
fn end(bytes: &[u8]) -> Option<(u64, u64)> {
    let first = bytes.len().saturating_sub(END + COMMENT);
    let at = (first..=bytes.len().checked_sub(END)?).rev().find(|&at| {
        bytes.get(at..).is_some_and(|end| {
            end.starts_with(b"PK\x05\x06") && u16_at(end, 20).is_some_and(|n| END + usize::from(n) == end.len())
        })
    })?;
    let locator = at.checked_sub(20).and_then(|at| bytes.get(at..)).filter(|l| l.starts_with(b"PK\x06\x07"));
    if let Some(locator) = locator {
        let end = from(bytes, u64_at(locator, 8)?).filter(|e| e.starts_with(b"PK\x06\x06"))?;
        return Some((u64_at(end, 48)?, u64_at(end, 32)?));
    }
    let end = bytes.get(at..)?;
    Some((u64::from(u32_at(end, 16)?), u64::from(u16_at(end, 10)?)))
}

fn directory(bytes: &[u8]) -> Option<BTreeMap<&str, Record>> {
    let (at, count) = end(bytes)?;
    let mut rest = from(bytes, at)?;
    let mut records = BTreeMap::new();
    // Every turn takes 46 bytes and more of the file, whatever `count` claims.
    for _ in 0..count {
        if !rest.starts_with(b"PK\x01\x02") {
            return None;
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| u16_at(rest, at).map(usize::from));
        let (name, extra, comment) = (name?, extra?, comment?);
        let mut record = Record {
            flags: u16_at(rest, 8)?,
            method: u16_at(rest, 10)?,
            crc: u32_at(rest, 16)?,
            packed: u64::from(u32_at(rest, 20)?),
            size: u64::from(u32_at(rest, 24)?),
            header: u64::from(u32_at(rest, 42)?),
            checked: false,
        };
        let (name, behind) = rest.get(46..)?.split_at_checked(name)?;
        let (extra, behind) = behind.split_at_checked(extra)?;
        widen(&mut record, extra)?;
        // A name that is not UTF-8 is none of PyTorch's.
        if let Ok(name) = std::str::from_utf8(name)
            && records.insert(name, record).is_some()
        {
            return None;
        }
        rest = behind.get(comment..)?;
    }
    Some(records)
}

/// Takes the numbers that need more than 32 bits from the Zip64 extra field, where they stand in this order.
fn widen(record: &mut Record, mut extra: &[u8]) -> Option<()> {
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..)?.get(..length)?;
        if id == 1 {
            let wide = [&mut record.size, &mut record.packed, &mut record.header];
            for (i, number) in wide.into_iter().filter(|n| **n == u64::from(u32::MAX)).enumerate() {
                *number = u64_at(field, 8 * i)?;
            }
        }
        extra = extra.get(4 + length..)?;
    }
    Some(())
}
