//! safetensors: a length, a JSON header of names, types, shapes and places, then the elements.
//!
//! The header is read here and not by the `safetensors` crate, which takes the last of two tensors with one name and
//! does not say which tensor is wrong.

use super::tensor::{View, decode, named};
use super::{Dtype, RawTensor, printable, shown};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Longer headers are refused, as everywhere that reads this format.
const MAX_HEADER: usize = 100_000_000;
/// Bytes of the header's length.
const LENGTH: usize = 8;
/// The key of the strings beside the tensors.
pub(super) const METADATA: &str = "__metadata__";

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

struct Header {
    tensors: Vec<(String, Info)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with the tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut names = BTreeSet::new();
        let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(named(&name, "there twice")));
            }
            if name == METADATA {
                header.metadata = map.next_value()?;
            } else {
                let info = map.next_value()?;
                header.tensors.push((name, info));
            }
        }
        Ok(header)
    }
}

pub(super) type Content = (BTreeMap<String, RawTensor>, BTreeMap<String, String>);

pub(super) fn parse(bytes: &[u8]) -> Result<Content, String> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or("cut short within its first 8 bytes")?;
    let claimed = u64::from_le_bytes(*length);
    let length = usize::try_from(claimed).ok().filter(|&n| n <= MAX_HEADER);
    let Some((header, data)) = length.and_then(|n| rest.split_at_checked(n)) else {
        return Err(format!("its header claims {claimed} bytes of the {} there are: damaged or cut short", rest.len()));
    };
    let header: Header = serde_json::from_slice(header)
        .map_err(|e| format!("its header cannot be read: {}", printable(&e.to_string(), 300)))?;
    let mut order = header.tensors;
    order.sort_by_key(|(_, info)| info.data_offsets);
    let mut tensors = BTreeMap::new();
    let mut at = 0;
    for (name, info) in order {
        let dtype =
            dtype(&info.dtype).ok_or_else(|| named(&name, &format!("type {} is not supported", shown(&info.dtype))))?;
        let (start, end) = info.data_offsets;
        if start != at || end < start {
            let what = if start < at { "overlap another tensor's" } else { "leave a gap or run backwards" };
            return Err(named(&name, &format!("its bytes {start} to {end} {what}")));
        }
        let view = View::contiguous(info.shape).map_err(|e| named(&name, &e))?;
        let count = view.count().map_err(|e| named(&name, &e))?;
        if count.checked_mul(dtype.size()) != Some(end - start) {
            let what = format!("shape {:?} of {dtype:?} does not fit {} bytes", view.shape, end - start);
            return Err(named(&name, &what));
        }
        let storage = data.get(start..end).ok_or_else(|| {
            named(&name, &format!("ends at byte {end} of the {} there are: the file is cut short", data.len()))
        })?;
        tensors.insert(name.clone(), decode(&name, dtype, storage, view)?);
        at = end;
    }
    if at != data.len() {
        return Err(format!("{} bytes behind the last tensor", data.len() - at));
    }
    Ok((tensors, header.metadata))
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "F32" => Dtype::F32,
        "F64" => Dtype::F64,
        "I8" => Dtype::I8,
        "U8" => Dtype::U8,
        "I16" => Dtype::I16,
        "U16" => Dtype::U16,
        "I32" => Dtype::I32,
        "U32" => Dtype::U32,
        "I64" => Dtype::I64,
        "U64" => Dtype::U64,
        "BOOL" => Dtype::Bool,
        _ => return None,
    })
}
