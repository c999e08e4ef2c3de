//! MATLAB's level 5 files, as far as label files need them: numbers, text and cells of these.

use flate2::read::ZlibDecoder;
use std::collections::BTreeMap;
use std::io::Read as _;

/// A variable.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A numeric or logical array in MATLAB's order, columns one after the other.
    Numbers(Vec<f64>),
    /// A character array.
    Text(String),
    /// A cell array.
    Cells(Vec<Value>),
}

/// Cells within cells.
const MAX_DEPTH: usize = 8;
/// Bytes that one compressed variable may unpack to: label files have some thousand values.
const MAX_UNPACKED: u64 = 64 << 20;

type Parsed<T> = Result<T, String>;

/// The variables of a file by name. Structures and objects are left out.
pub(super) fn parse(bytes: &[u8]) -> Parsed<BTreeMap<String, Value>> {
    if bytes.starts_with(b"\x89HDF") || bytes.get(..10) == Some(b"MATLAB 7.3") {
        return Err("is a MATLAB 7.3 (HDF5) file; save it with -v7".into());
    }
    let little = match bytes.get(126..128) {
        Some(b"IM") => true,
        Some(b"MI") => false,
        _ => return Err("is no MATLAB file of level 5".into()),
    };
    let mut variables = BTreeMap::new();
    let mut reader = Reader { bytes: &bytes[128..], little };
    while !reader.bytes.is_empty() {
        let (kind, data) = reader.element(false)?;
        let unpacked;
        let matrix = match kind {
            14 => Reader { bytes: data, little },
            15 => {
                let mut all = Vec::new();
                let failed = |e| format!("a compressed variable cannot be unpacked: {e}");
                ZlibDecoder::new(data).take(MAX_UNPACKED).read_to_end(&mut all).map_err(failed)?;
                unpacked = all;
                let (kind, data) = Reader { bytes: &unpacked, little }.element(true)?;
                if kind != 14 {
                    continue;
                }
                Reader { bytes: data, little }
            }
            _ => continue,
        };
        if let (name, Some(value)) = matrix.matrix(0)? {
            variables.insert(name, value);
        }
    }
    Ok(variables)
}

struct Reader<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n).ok_or("the file is cut off")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Parsed<u32> {
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| "the file is cut off")?;
        Ok(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// The next element's type and data; `padded` to eight bytes as inside of a variable.
    fn element(&mut self, padded: bool) -> Parsed<(u32, &'a [u8])> {
        let tag = self.u32()?;
        if tag >> 16 != 0 {
            // A small element: its size and up to four bytes of data within eight.
            let data = self.take(4)?;
            return Ok((tag & 0xffff, data.get(..(tag >> 16) as usize).ok_or("a small element is too large")?));
        }
        let size = self.u32()? as usize;
        let data = self.take(size)?;
        if padded || tag != 15 {
            let padding = size.next_multiple_of(8) - size;
            self.take(padding.min(self.bytes.len()))?;
        }
        Ok((tag, data))
    }

    /// A variable's name and value; none for structures and objects.
    fn matrix(mut self, depth: usize) -> Parsed<(String, Option<Value>)> {
        if depth > MAX_DEPTH {
            return Err("cells are nested too deeply".into());
        }
        if self.bytes.is_empty() {
            return Ok((String::new(), Some(Value::Numbers(Vec::new())))); // an empty cell
        }
        let little = self.little;
        let (_, flags) = self.element(true)?;
        let class = Reader { bytes: flags, little }.u32()? & 0xff;
        let (_, dims) = self.element(true)?;
        let mut dims = Reader { bytes: dims, little };
        let mut count = 1usize;
        while !dims.bytes.is_empty() {
            count = count.checked_mul(dims.u32()? as usize).ok_or("an array is too large")?;
        }
        let (_, name) = self.element(true)?;
        let name = String::from_utf8_lossy(name).into_owned();
        let value = match class {
            1 => {
                let mut cells = Vec::new();
                for _ in 0..count {
                    let (kind, data) = self.element(true)?;
                    if kind != 14 {
                        return Err(format!("`{name}` has a cell that is no array"));
                    }
                    let (_, value) = Reader { bytes: data, little }.matrix(depth + 1)?;
                    cells.push(value.ok_or_else(|| format!("`{name}` has cells of a kind that is not read"))?);
                }
                Some(Value::Cells(cells))
            }
            4 => {
                let (kind, data) = self.element(true)?;
                let text = match kind {
                    1 | 2 | 16 => String::from_utf8_lossy(data).into_owned(),
                    _ => numbers(kind, data, little)?.iter().filter_map(|&v| char::from_u32(v as u32)).collect(),
                };
                Some(Value::Text(text))
            }
            6..=15 => {
                let (kind, data) = self.element(true)?;
                let values = numbers(kind, data, little)?;
                if values.len() != count {
                    return Err(format!("`{name}` has {} values where its size says {count}", values.len()));
                }
                Some(Value::Numbers(values))
            }
            _ => None,
        };
        Ok((name, value))
    }
}

/// An element's numbers.
fn numbers(kind: u32, data: &[u8], little: bool) -> Parsed<Vec<f64>> {
    macro_rules! read {
        ($type:ty) => {
            data.chunks_exact(size_of::<$type>())
                .filter_map(|bytes| bytes.try_into().ok())
                .map(|bytes| {
                    (if little { <$type>::from_le_bytes(bytes) } else { <$type>::from_be_bytes(bytes) }) as f64
                })
                .collect()
        };
    }
    Ok(match kind {
        1 => read!(i8),
        2 => read!(u8),
        3 => read!(i16),
        4 | 17 => read!(u16),
        5 => read!(i32),
        6 | 18 => read!(u32),
        7 => read!(f32),
        9 => read!(f64),
        12 => read!(i64),
        13 => read!(u64),
        _ => return Err(format!("an array of a type that is not read ({kind})")),
    })
}
