//! Checkpoints that PyTorch itself wrote (`tests/fixtures/pytorch/make.py`), whole and damaged.

use super::{Format, fixture, parsed, ramp, refusal, tensor};
use crate::weights_file::{Dtype, WeightsFile, pickle, pytorch, read, zip::Zip};
use std::fs;

fn open(name: &str) -> WeightsFile {
    let file = read(&fixture(name)).unwrap();
    assert_eq!(file.format, Format::PyTorch);
    file
}

fn raw(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap()
}

fn fixtures() -> Vec<String> {
    let names = fs::read_dir(fixture("")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.filter(|n| n.ends_with(".pth")).collect();
    assert!(names.len() > 20);
    names
}

#[test]
fn state_dicts_wherever_they_are() {
    let files = [
        "plain",
        "dict",
        "module_state",
        "protocol3",
        "protocol4",
        "protocol5",
        "training",
        "parallel",
        "compiled",
        "legacy",
        "legacy_training",
    ];
    for name in files {
        let file = open(&format!("{name}.pth"));
        let weight = tensor(&file, "conv.weight");
        assert_eq!((weight.shape.as_slice(), weight.dtype), (&[4, 3, 2, 2][..], Dtype::F32), "{name}");
        assert_eq!(weight.values, ramp(48, 0.0), "{name}");
        assert_eq!(tensor(&file, "conv.bias").values, ramp(4, -1.0), "{name}");
        let batches = tensor(&file, "bn.num_batches_tracked");
        assert_eq!((batches.shape.len(), batches.dtype, batches.values.len()), (0, Dtype::I64, 0), "{name}");
        let whole_module = ["module_state", "training"].contains(&name);
        assert_eq!(file.tensors.len(), if whole_module { 7 } else { 3 }, "{name}: {:?}", file.tensors.keys());
    }
}

/// Element `[i, j, ...]` of the tensor is `value(i, j, ...)` quarters.
fn check(file: &WeightsFile, name: &str, shape: &[usize], value: impl Fn(&[usize]) -> usize) {
    let t = tensor(file, name);
    assert_eq!(t.shape, shape, "{name}");
    let mut index = vec![0; shape.len()];
    for (at, v) in t.values.iter().enumerate() {
        let mut rest = at;
        for (i, &n) in index.iter_mut().zip(shape).rev() {
            (*i, rest) = (rest % n, rest / n);
        }
        assert_eq!(*v, 0.25 * value(&index) as f32, "{name} {index:?}");
    }
    assert_eq!(t.values.len(), shape.iter().product::<usize>(), "{name}");
}

#[test]
fn strides_offsets_and_shared_storages() {
    let file = open("strided.pth");
    check(&file, "transposed", &[4, 3], |i| 4 * i[1] + i[0]);
    check(&file, "permuted", &[4, 2, 3], |i| 12 * i[1] + 4 * i[2] + i[0]);
    check(&file, "step", &[3], |i| 1 + 3 * i[0]);
    check(&file, "row", &[5], |i| 10 + i[0]);
    check(&file, "column", &[6], |i| 5 * i[0] + 3);
    check(&file, "whole", &[6, 5], |i| 5 * i[0] + i[1]);
    check(&file, "again", &[6, 5], |i| 5 * i[0] + i[1]);
    check(&file, "expanded", &[2, 3], |i| i[1]);
    check(&file, "scalar", &[], |_| 10);
    check(&file, "channels_last", &[2, 3, 2, 2], |i| 12 * i[0] + 4 * i[1] + 2 * i[2] + i[3]);
    check(&file, "parameter", &[3], |i| i[0]);
    let file = open("legacy_strided.pth");
    check(&file, "row", &[5], |i| 10 + i[0]);
    check(&file, "column", &[6], |i| 5 * i[0] + 3);
    check(&file, "half", &[3], |i| i[0]);
    assert_eq!(tensor(&file, "half").dtype, Dtype::F16);
}

#[test]
fn every_kind() {
    let file = open("kinds.pth");
    let kinds = [
        ("float32", Dtype::F32),
        ("float16", Dtype::F16),
        ("bfloat16", Dtype::BF16),
        ("float64", Dtype::F64),
        ("int8", Dtype::I8),
        ("uint8", Dtype::U8),
        ("int16", Dtype::I16),
        ("int32", Dtype::I32),
        ("int64", Dtype::I64),
        ("bool", Dtype::Bool),
    ];
    for (name, dtype) in kinds {
        let t = tensor(&file, name);
        assert_eq!((t.shape.as_slice(), t.dtype), (&[2, 3][..], dtype), "{name}");
        assert_eq!(t.values, if dtype.is_float() { ramp(6, 0.0) } else { Vec::new() }, "{name}");
    }
}

#[test]
fn what_is_not_read_says_why() {
    let cases = [
        ("complex", "tensor z: type ComplexFloat is not supported"),
        ("sparse", "tensor s: made by _rebuild_sparse_tensor"),
        ("quantized", "tensor q: made by _rebuild_qtensor"),
        ("nan", "tensor bad.weight: NaN at index [1, 1]"),
        ("zero_size", "tensor none.weight: shape [0, 3] has a dimension of size 0"),
        ("whole_module", "save model.state_dict()"),
        ("nested_module", "save model.state_dict()"),
        ("legacy_module", "save model.state_dict()"),
        ("one_tensor", "one tensor without a name"),
        ("list", "no state dict in it"),
        ("nothing", "only: epoch, lr"),
        ("script", "TorchScript"),
    ];
    for (name, expected) in cases {
        let text = refusal(&raw(&format!("{name}.pth")));
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn cut_anywhere_is_an_error() {
    for name in ["plain", "training", "strided", "legacy", "legacy_training"] {
        let whole = raw(&format!("{name}.pth"));
        for end in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            refusal(&whole[..end]);
        }
    }
}

/// Bytes of whole files changed: an error or other values, never a panic.
#[test]
fn changed_bytes_do_no_harm() {
    for name in fixtures() {
        let whole = raw(&name);
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let _ = parsed(&bytes);
            }
        }
    }
}

/// Reads a file's pickle after `change`, past the check sum that would refuse it.
fn with_pickle(whole: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Result<usize, String> {
    let mut zip = Zip::new(whole)?;
    let path = zip.names().find(|n| n.ends_with("/data.pkl")).unwrap();
    let root = path.strip_suffix("data.pkl").unwrap();
    let mut bytes = zip.get(path)?.unwrap().to_vec();
    change(&mut bytes);
    let pickle = pickle::load(&bytes)?;
    let tensors = pytorch::tensors(&pickle, whole.len(), |key| zip.get(&format!("{root}data/{key}")))?;
    // What an invented shape may cost is bounded by the file.
    let elements: usize = tensors.values().map(|t| t.values.len()).sum();
    assert!(elements <= whole.len() + (1 << 12));
    Ok(elements)
}

#[test]
fn changed_pickles_do_no_harm() {
    for name in fixtures().into_iter().filter(|n| !n.starts_with("legacy")) {
        let whole = raw(&name);
        let mut length = 0;
        let _ = with_pickle(&whole, |b| length = b.len());
        for at in 0..length {
            for change in [0x01, 0x02, 0x10, 0x80, 0xff] {
                let _ = with_pickle(&whole, |b| b[at] ^= change);
            }
            for code in *b".(0Rt}u]ebQh\x85\x86\x87\x81\x93\x94" {
                let _ = with_pickle(&whole, |b| b[at] = code);
            }
            assert!(with_pickle(&whole, |b| b.truncate(at)).is_err());
            let _ = with_pickle(&whole, |b| b.copy_within(at + 1.., at));
            let _ = with_pickle(&whole, |b| b.insert(at, b'0'));
        }
    }
}

#[test]
fn damage_is_found_by_the_check_sum() {
    let mut bytes = raw("plain.pth");
    // 11.75, the last weight.
    let at = bytes.windows(4).position(|w| w == 11.75f32.to_le_bytes()).unwrap();
    bytes[at] ^= 1;
    assert!(refusal(&bytes).contains("check sum"));
}

/// Replaces the first occurrence.
fn replace(bytes: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|w| w == from).expect("is in the pickle");
    bytes.splice(at..at + from.len(), to.iter().copied());
}

#[test]
fn layouts_are_held_against_the_storage() {
    let whole = raw("plain.pth");
    let shape = b"K\x04K\x03K\x02K\x02t";
    let cases: [(&[u8], &[u8], &str); 10] = [
        (shape, b"K\x04K\x03K\x02K\x03t", "conv.weight: needs 49 elements of a storage of 48"),
        (shape, b"K\x04K\x03K\x02K\x00t", "conv.weight: shape [4, 3, 2, 0] has a dimension of size 0"),
        (shape, b"K\x04K\x03K\x02t", "conv.weight: 4 strides for 3 dimensions"),
        (shape, b"K\x04K\x03K\x02J\xff\xff\xff\xfft", "conv.weight: its shape is not made of"),
        (shape, b"K\x04K\x03K\x02\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7ft", "conv.weight: shape"),
        (b"K\x0cK\x04K\x02K\x01t", b"K\x0cK\x04K\x02J\xff\xff\xff\xfft", "conv.weight: its stride is not made of"),
        (
            b"K\x0cK\x04K\x02K\x01t",
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x04K\x02K\x01t",
            "conv.weight: its offset and strides lie outside",
        ),
        (b"QK\x00(", b"QK\x01(", "conv.weight: needs 49 elements of a storage of 48"),
        (b"QK\x00(", b"QJ\xff\xff\xff\xff(", "conv.weight: its offset is not"),
        (b"K0", b"K1", "conv.weight: its storage has 192 bytes for 49 elements"),
    ];
    for (from, to, expected) in cases {
        let text = with_pickle(&whole, |b| replace(b, from, to)).unwrap_err();
        assert!(text.contains(expected), "{text}");
    }
    // Expanding one row a million times is no reading of a small file.
    let whole = raw("strided.pth");
    let expand = |b: &mut Vec<u8>| replace(b, b"K\x02K\x03\x86", b"J\x00\x00\x00\x10K\x03\x86");
    assert!(with_pickle(&whole, expand).unwrap_err().contains("tensor expanded: the tensors have many times more"));
    // A storage class of which nothing is known.
    let text = with_pickle(&raw("plain.pth"), |b| replace(b, b"FloatStorage", b"FooooStorage")).unwrap_err();
    assert!(text.contains("tensor conv.weight: type Foooo is not supported"), "{text}");
}

#[test]
fn zip_directories_that_lie() {
    let whole = raw("plain.pth");
    let end = whole.windows(4).rposition(|w| w == b"PK\x06\x06").unwrap();
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    // Number of records, place of the directory, sizes and place of a record, compression, encryption.
    for (at, n) in [(end + 32, 8), (end + 48, 8), (directory + 8, 2), (directory + 10, 2), (directory + 20, 8)] {
        let mut bytes = whole.clone();
        bytes[at..at + n].fill(0xff);
        refusal(&bytes);
    }
    for (at, value, expected) in [(8, 1, "encrypted"), (10, 8, "compressed"), (24, 1, "compressed")] {
        let mut bytes = whole.clone();
        bytes[directory + at] = value;
        let text = refusal(&bytes);
        assert!(text.contains(expected), "{text}");
    }
    // Another archive.
    let text = refusal(&[b"PK\x03\x04".as_slice(), &[0; 30], b"PK\x05\x06", &[0; 18]].concat());
    assert!(text.contains("zip archive"), "{text}");
}
