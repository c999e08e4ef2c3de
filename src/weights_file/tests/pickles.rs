//! The pickle machine against what no honest program writes.

use crate::weights_file::pickle::{Value, load};
use crate::weights_file::pytorch::tensors;

/// The message where reading the pickle as a checkpoint fails, or the number of tensors.
fn outcome(bytes: &[u8]) -> Result<usize, String> {
    let pickle = load(bytes)?;
    tensors(&pickle, bytes.len(), |_| Ok(None)).map(|t| t.len())
}

#[test]
fn depth_does_not_reach_the_stack() {
    const DEEP: usize = 300_000;
    let nest =
        |open: &[u8], close: &[u8]| [b"\x80\x02", &open.repeat(DEEP)[..], b"N", &close.repeat(DEEP), b"."].concat();
    for (open, close) in
        [(&b"]"[..], &b"a"[..]), (b"(", b"t"), (b"(", b"l"), (b"}N", b"s"), (b"", b"\x85"), (b"", b"Q")]
    {
        assert!(outcome(&nest(open, close)).unwrap_err().contains("no state dict"));
    }
    // Objects whose class, arguments and state are objects.
    assert!(outcome(&nest(b"N", b"R")).is_err());
    assert!(outcome(&nest(b"N)R", b"b")).is_err());
    // `model` within `model`, further than is looked.
    assert!(outcome(&nest(b"}X\x05\0\0\0model", b"s")).unwrap_err().contains("only: model"));
}

#[test]
fn loops_end() {
    // A dict that is its own `model`, a parameter made of itself, a module that is its own state.
    let own = b"\x80\x02}q\x00X\x05\0\0\0modelh\x00s.";
    assert!(outcome(own).unwrap_err().contains("only: model"));
    let parameter = b"\x80\x02}X\x01\0\0\0x(ctorch._utils\n_rebuild_parameter\n]q\x01h\x01a\x85Rq\x02h\x02b0}.";
    assert!(outcome(parameter).is_err());
    let around = b"\x80\x02}X\x01\0\0\0xctorch._utils\n_rebuild_parameter\n]q\x01(h\x01ltRq\x02s.";
    assert!(outcome(around).is_err());
    let state = b"\x80\x02cx\ny\n)Rq\x00h\x00b.";
    assert!(outcome(state).is_err());
    // Doubling at every level: 2^1000 leaves, if anyone walked it.
    let laughs = [b"\x80\x02]".as_slice(), &b"2\x86".repeat(1000), b"."].concat();
    assert!(outcome(&laughs).unwrap_err().contains("no state dict"));
    // Many names for one large dict.
    let big: Vec<u8> = (0..20_000u32).flat_map(|i| [&b"J"[..], &i.to_le_bytes(), b"N"].concat()).collect();
    let names: Vec<u8> = (0..200_000u32).flat_map(|i| [&b"J"[..], &i.to_le_bytes(), b"h\x00"].concat()).collect();
    let many = [b"\x80\x02}(".as_slice(), &big, b"uq\x000}(", &names, b"u."].concat();
    assert!(outcome(&many).unwrap_err().contains("no state dict"));
}

#[test]
fn claimed_lengths_are_not_believed() {
    for code in [b"X\xff\xff\xff\xff".as_slice(), b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", b"\x8e\0\0\0\0\0\0\0\x7f"] {
        assert!(load(&[b"\x80\x04", code, b"abc."].concat()).unwrap_err().contains("at byte 2"));
    }
    for code in [b"\x8b\xff\xff\xff\x7f".as_slice(), b"B\0\0\0\x80", b"\x96\0\0\0\0\0\0\0\x10", b"\x8a\xff"] {
        assert!(load(&[b"\x80\x04", code, b"."].concat()).is_err());
    }
    // A memo entry with a large number takes no more room than another.
    assert!(load(b"\x80\x02Nr\xff\xff\xff\xff.").is_ok());
}

#[test]
fn limits_hold() {
    assert!(load(&b"N".repeat(2 << 20)).is_err());
    assert!(load(&b"(".repeat(2 << 20)).is_err());
    assert!(load(&[&b"N0".repeat(3 << 20)[..], b"N."].concat()).unwrap_err().contains("too long"));
}

#[test]
fn marks_guard_the_stack() {
    let nonsense = [
        "", ".", "0", "1", "t", "Nt.", "(.", "N(0.(", "(a.", "N(s.", "(Nd.", "(Nu.", "NNs.", "R.", "NR.", "b.", "Q.",
        "o.", "(o.",
    ];
    for code in nonsense.iter().filter(|c| **c != "N(0.(") {
        assert!(load(code.as_bytes()).is_err(), "{code}");
    }
    assert!(load(b"N(0.").is_ok());
    for code in [b"h\x00.".as_slice(), b"j\0\0\0\0.", b"g0\n.", b"gx\n.", b"\x97.", b"\x98.", b"\xff.", b"NN\x93"] {
        assert!(load(code).is_err(), "{code:?}");
    }
}

/// What every protocol calls the same things.
#[test]
fn numbers_and_text_of_all_protocols() {
    let int = |bytes: &[u8]| match load(bytes).unwrap() {
        p if matches!(p.get(p.top), Value::Int(_)) => match p.get(p.top) {
            Value::Int(n) => Some(*n),
            _ => None,
        },
        _ => None,
    };
    for (bytes, value) in [
        (&b"I-12\n."[..], -12),
        (b"L-12L\n.", -12),
        (b"J\xf4\xff\xff\xff.", -12),
        (b"K\xf4.", 244),
        (b"M\xf4\xff.", 65524),
        (b"\x8a\x01\xf4.", -12),
        (b"\x8a\x00.", 0),
        (b"\x8a\x02\x00\x80.", -32768),
        (b"\x8b\x02\0\0\0\x00\x7f.", 32512),
        (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", i64::MIN),
    ] {
        assert_eq!(int(bytes), Some(value), "{bytes:?}");
    }
    assert_eq!(int(b"\x8a\x09\0\0\0\0\0\0\0\0\x01."), None);
    for bytes in
        [&b"S'ab'\n."[..], b"S\"ab\"\n.", b"Vab\n.", b"U\x02ab.", b"T\x02\0\0\0ab.", b"X\x02\0\0\0ab.", b"\x8c\x02ab."]
    {
        let pickle = load(bytes).unwrap();
        assert!(matches!(pickle.get(pickle.top), Value::Str("ab")), "{bytes:?}");
    }
    let pickle = load(b"\x80\x04\x95\0\0\0\0\0\0\0\0\x8c\x01a\x94\x8c\x01b\x94\x93.").unwrap();
    assert!(matches!(pickle.get(pickle.top), Value::Global("a", "b")));
    let pickle = load(b"\x80\x02U\x02\xff\xfe.").unwrap();
    assert!(matches!(pickle.get(pickle.top), Value::Opaque));
}
