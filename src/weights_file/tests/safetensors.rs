//! safetensors: against the `safetensors` crate both ways, and what must be refused.

use super::{Format, parsed, ramp, refusal, tensor};
use crate::Error;
use crate::weights_file::{Dtype, WriteDtype, read, write};
use half::{bf16, f16};
use safetensors::tensor::{Dtype as Kind, SafeTensors, TensorView, serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs;

/// A file of this header and these bytes.
pub(super) fn assemble(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn bytes<const N: usize>(values: &[f32], to: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&v| to(v)).collect()
}

/// One tensor `(2, 3)` of each kind, as another program writes them.
fn sample() -> Vec<u8> {
    let values = ramp(6, -1.0);
    let data = [
        ("single", Kind::F32, bytes(&values, f32::to_le_bytes)),
        ("half", Kind::F16, bytes(&values, |v| f16::from_f32(v).to_le_bytes())),
        ("brain", Kind::BF16, bytes(&values, |v| bf16::from_f32(v).to_le_bytes())),
        ("double", Kind::F64, bytes(&values, |v| f64::from(v).to_le_bytes())),
        ("long", Kind::I64, vec![1; 48]),
        ("truth", Kind::BOOL, vec![1; 6]),
    ];
    let views = data.iter().map(|(name, kind, data)| (*name, TensorView::new(*kind, vec![2, 3], data).unwrap()));
    let metadata = HashMap::from([("format".to_string(), "pt".to_string()), ("epoch".into(), "3".into())]);
    serialize(views, Some(metadata)).unwrap()
}

#[test]
fn every_kind_and_the_metadata() {
    let file = parsed(&sample()).unwrap();
    assert_eq!(file.format, Format::Safetensors);
    assert_eq!(file.metadata, BTreeMap::from([("format".into(), "pt".into()), ("epoch".into(), "3".into())]));
    let kinds = [("single", Dtype::F32), ("half", Dtype::F16), ("brain", Dtype::BF16), ("double", Dtype::F64)];
    for (name, dtype) in kinds {
        let t = tensor(&file, name);
        assert_eq!((t.shape.as_slice(), t.dtype, t.values.as_slice()), (&[2, 3][..], dtype, &ramp(6, -1.0)[..]));
    }
    for (name, dtype) in [("long", Dtype::I64), ("truth", Dtype::Bool)] {
        let t = tensor(&file, name);
        assert_eq!((t.shape.as_slice(), t.dtype, t.values.len()), (&[2, 3][..], dtype, 0));
    }
}

#[test]
fn written_files_are_read_here_and_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = BTreeMap::from([
        ("a.weight".to_string(), (vec![2, 3], ramp(6, 1.0))),
        ("b".into(), (vec![], vec![0.1])),
        ("\"quoted\" \u{1F980}".into(), (vec![1, 1, 2], vec![-0.0, 6e-8])),
    ]);
    let metadata = BTreeMap::from([("z".to_string(), "1".to_string()), ("a".into(), "two\n\"lines\"".into())]);
    for (dtype, own, kind) in [(WriteDtype::F32, Dtype::F32, Kind::F32), (WriteDtype::F16, Dtype::F16, Kind::F16)] {
        let path = folder.path().join("out.safetensors");
        write(&path, &tensors, dtype, &metadata).unwrap();
        let raw = fs::read(&path).unwrap();
        let other = SafeTensors::deserialize(&raw).unwrap();
        let file = read(&path).unwrap();
        assert_eq!((file.metadata, other.len()), (metadata.clone(), 3));
        for (name, (shape, values)) in &tensors {
            let t = &file.tensors[name];
            let expected: Vec<f32> = match dtype {
                WriteDtype::F32 => values.clone(),
                WriteDtype::F16 => values.iter().map(|&v| f16::from_f32(v).to_f32()).collect(),
            };
            assert_eq!((&t.shape, t.dtype), (shape, own));
            assert!(t.values.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits())));
            let view = other.tensor(name).unwrap();
            assert_eq!((view.shape(), view.dtype()), (shape.as_slice(), kind));
        }
        // The same content gives the same bytes, over an existing file too, and nothing else is left behind.
        write(&path, &tensors, dtype, &metadata).unwrap();
        assert_eq!(fs::read(&path).unwrap(), raw);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    let none = BTreeMap::new();
    let cases = [
        ("x", vec![2], vec![1.0], WriteDtype::F32, "does not fit 1 values"),
        ("x", vec![0], vec![], WriteDtype::F32, "size 0"),
        ("x", vec![usize::MAX, 2], vec![1.0], WriteDtype::F32, "more elements"),
        ("x", vec![2], vec![1.0, f32::NAN], WriteDtype::F32, "NaN at position 1"),
        ("x", vec![1], vec![1e5], WriteDtype::F16, "cannot be written as F16"),
        ("__metadata__", vec![1], vec![1.0], WriteDtype::F32, "taken by the format"),
    ];
    for (name, shape, values, dtype, expected) in cases {
        let tensors = BTreeMap::from([(name.to_string(), (shape, values))]);
        let error = write(&path, &tensors, dtype, &none).unwrap_err();
        assert!(matches!(error, Error::Input(_)) && error.to_string().contains(expected), "{error}");
    }
    let tensors = BTreeMap::from([("x".to_string(), (vec![1], vec![1.0]))]);
    for place in [folder.path().join("none/out"), folder.path().to_path_buf()] {
        let error = write(&place, &tensors, WriteDtype::F32, &none).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn cut_anywhere_is_an_error() {
    let whole = sample();
    for end in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        refusal(&whole[..end]);
    }
    assert!(refusal(&[whole, vec![0]].concat()).contains("1 bytes behind the last tensor"));
}

/// Every byte flipped in every bit: an error or other values, never a panic.
#[test]
fn flipped_bits_do_no_harm() {
    let whole = sample();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let _ = parsed(&bytes);
        }
    }
}

#[test]
fn claims_are_held_against_the_file() {
    for claim in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 200_000_000, 99_000_000] {
        let text = refusal(&[&claim.to_le_bytes()[..], b"{}      "].concat());
        assert!(text.contains(&format!("claims {claim} bytes of the 8 there are")), "{text}");
    }
    let one = |rest: &str| format!(r#"{{"x.weight":{{"dtype":"F32",{rest}}}}}"#);
    let cases = [
        (one(r#""shape":[2],"data_offsets":[0,8]"#), 4, "x.weight: ends at byte 8 of the 4"),
        (one(r#""shape":[2],"data_offsets":[4,12]"#), 12, "x.weight: its bytes 4 to 12 leave a gap"),
        (one(r#""shape":[2],"data_offsets":[0,4]"#), 4, "x.weight: shape [2] of F32 does not fit 4 bytes"),
        (one(r#""shape":[2,0],"data_offsets":[0,0]"#), 0, "x.weight: shape [2, 0] has a dimension of size 0"),
        (one(r#""shape":[4611686018427387904,4],"data_offsets":[0,4]"#), 4, "x.weight: shape"),
        (one(r#""shape":[4611686018427387904],"data_offsets":[0,0]"#), 0, "x.weight: shape"),
        (one(r#""shape":[-1],"data_offsets":[0,4]"#), 4, "header cannot be read"),
        (one(r#""shape":[1],"data_offsets":[0,18446744073709551616]"#), 4, "header cannot be read"),
        (one(r#""shape":[1],"data_offsets":[4,0]"#), 4, "x.weight: its bytes 4 to 0"),
        (one(&format!(r#""shape":[{}1],"data_offsets":[0,4]"#, "1,".repeat(40))), 4, "x.weight: 41 dimensions"),
        (r#"{"x":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#.into(), 4, "x: type F8_E4M3 is not"),
        ("{}".into(), 0, "no tensors"),
        ("{\"__metadata__\":{\"a\":1}}".into(), 0, "header cannot be read"),
        ("{\"a\":".repeat(20_000), 0, "header cannot be read"),
        ("{\"\n\u{1b}".into(), 0, "header cannot be read"),
    ];
    for (header, data, expected) in cases {
        let text = refusal(&assemble(&header, &vec![0; data]));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn overlaps_and_doubles() {
    let at = |name: &str, from, to| format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":[{from},{to}]}}"#);
    let header = format!("{{{},{}}}", at("a", 0, 8), at("b", 4, 12));
    assert!(refusal(&assemble(&header, &[0; 12])).contains("tensor b: its bytes 4 to 12 overlap"));
    let header = format!("{{{},{}}}", at("a", 0, 8), at("b", 0, 8));
    assert!(refusal(&assemble(&header, &[0; 8])).contains("tensor b: its bytes 0 to 8 overlap"));
    for second in [at("a", 0, 8), at("a", 8, 16)] {
        let header = format!("{{{},{second}}}", at("a", 0, 8));
        assert!(refusal(&assemble(&header, &[0; 16])).contains("tensor a: there twice"));
    }
}

#[test]
fn values_must_be_finite_numbers() {
    let file = |kind: &str, data: &[u8]| {
        let n = data.len();
        let size = if kind == "F64" { 8 } else { 4 };
        let shape = format!("[2,{}]", n / size / 2);
        assemble(&format!(r#"{{"x.w":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{n}]}}}}"#), data)
    };
    let single = |v: [f32; 4]| file("F32", &bytes(&v, f32::to_le_bytes));
    assert!(refusal(&single([0.0, 1.0, f32::NAN, f32::NAN])).contains("tensor x.w: NaN at index [1, 0]"));
    assert!(refusal(&single([0.0, f32::NEG_INFINITY, 0.0, 0.0])).contains("tensor x.w: infinity at index [0, 1]"));
    let double: Vec<u8> = [1.0f64, -1e300].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(refusal(&file("F64", &double)).contains("tensor x.w: -1e300, too large for 32 bits, at index [1, 0]"));
}

#[test]
fn wrappers_come_off_where_all_names_have_them() {
    let names = |names: &[&str]| {
        let entry = |(i, n): (usize, &&str)| {
            format!(r#""{n}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#, 4 * i, 4 * i + 4)
        };
        let header: Vec<String> = names.iter().enumerate().map(entry).collect();
        let data = vec![0; 4 * names.len()];
        let file = parsed(&assemble(&format!("{{{}}}", header.join(",")), &data)).unwrap();
        file.tensors.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names(&["module.a", "module.b"]), ["a", "b"]);
    assert_eq!(names(&["_orig_mod.module.a", "_orig_mod.module._orig_mod.b"]), ["_orig_mod.b", "a"]);
    assert_eq!(names(&["module.a", "b"]), ["b", "module.a"]);
    assert_eq!(names(&["module.", "module.a"]), ["module.", "module.a"]);
}
