//! A machine for Python pickles that builds data and runs nothing.
//!
//! Classes and functions that a pickle names stay names, and what it would make of them becomes an [`Object`]. All
//! values lie in one list and refer to each other by number: sharing costs nothing, loops do no harm, and no depth of
//! nesting reaches the call stack. Every instruction takes at least one byte and makes at most one value, so that
//! memory is bounded by the file's length; the limits below bound it for long files.

use std::collections::HashMap;

/// Instructions in one pickle: a large training checkpoint has some 100 000.
const MAX_INSTRUCTIONS: usize = 1 << 22;
const MAX_STACK: usize = 1 << 20;
const MAX_MEMO: usize = 1 << 21;

/// The number of a value.
pub(super) type Id = usize;

/// What calling a class or function would have made.
#[derive(Debug)]
pub(super) struct Object {
    pub class: Id,
    /// A tuple.
    pub args: Id,
    /// What `__setstate__` would have got.
    pub state: Option<Id>,
    /// What `__setitem__` would have got.
    pub items: Vec<(Id, Id)>,
}

#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Str(&'a str),
    /// Also frozen sets.
    Tuple(Vec<Id>),
    /// Also sets.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// Something by its module and name.
    Global(&'a str, &'a str),
    Object(Box<Object>),
    /// Something outside the pickle, by what identifies it.
    Persistent(Id),
    /// Floating-point numbers, long integers, bytes, strings that are not UTF-8: nothing here needs them.
    Opaque,
}

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// The value it is about.
    pub top: Id,
    /// Bytes up to its end.
    pub length: usize,
}

impl<'a> Pickle<'a> {
    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id).unwrap_or(&Value::Opaque)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.values.iter()
    }
}

/// Reads the pickle that `bytes` begin with.
pub(super) fn load(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    let mut machine =
        Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    for _ in 0..MAX_INSTRUCTIONS {
        let at = machine.at;
        match machine.step() {
            Some(None) => {}
            Some(Some(top)) => return Ok(Pickle { values: machine.values, top, length: machine.at }),
            None => {
                return Err(match bytes.get(at) {
                    Some(code) => format!("its pickle cannot be read: instruction {code:#04x} at byte {at}"),
                    None => "its pickle is cut short".into(),
                });
            }
        }
    }
    Err("its pickle is too long".into())
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction: the result at the end of the pickle, `None` where it makes no sense.
    fn step(&mut self) -> Option<Option<Id>> {
        match self.byte()? {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.byte()?),
            0x95 => drop(self.take(8)?),
            b'(' => {
                if self.marks.len() >= MAX_STACK {
                    return None;
                }
                self.marks.push(self.stack.len());
            }
            // POP of a mark takes the mark.
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' => {
                let value = match self.line()? {
                    b"00" => Value::Bool(false),
                    b"01" => Value::Bool(true),
                    digits => decimal(digits),
                };
                self.push(value)?;
            }
            b'L' => {
                let digits = self.line()?;
                self.push(decimal(digits.strip_suffix(b"L").unwrap_or(digits)))?;
            }
            b'J' => {
                let value = self.number::<4>().map(i32::from_le_bytes)?;
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let value = self.length::<1>()?;
                self.push(Value::Int(value as i64))?;
            }
            b'M' => {
                let value = self.length::<2>()?;
                self.push(Value::Int(value as i64))?;
            }
            0x8a => {
                let n = self.length::<1>()?;
                self.long(n)?;
            }
            0x8b => {
                let n = self.length::<4>()?;
                self.long(n)?;
            }
            b'F' => {
                self.line()?;
                self.push(Value::Opaque)?;
            }
            b'G' => self.opaque(8)?,
            b'S' | b'V' => {
                let text = self.line()?;
                let text = if text.starts_with(b"'") || text.starts_with(b"\"") {
                    text.get(1..text.len().saturating_sub(1)).unwrap_or_default()
                } else {
                    text
                };
                self.push(string(text))?;
            }
            b'X' | b'T' => self.text::<4>()?,
            b'U' | 0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'B' => self.length::<4>().and_then(|n| self.opaque(n))?,
            b'C' => self.length::<1>().and_then(|n| self.opaque(n))?,
            0x8e | 0x96 => self.length::<8>().and_then(|n| self.opaque(n))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b']' | 0x8f => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b't' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b'd' => {
                let items = pairs(&self.pop_mark()?)?;
                self.push(Value::Dict(items))?;
            }
            count @ 0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0x85..=count {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Value::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[(key, value)])?;
            }
            b'u' => {
                let items = pairs(&self.pop_mark()?)?;
                self.set_items(&items)?;
            }
            b'c' => self.global()?,
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let global = match (self.values.get(module)?, self.values.get(name)?) {
                    (Value::Str(module), Value::Str(name)) => Value::Global(module, name),
                    _ => Value::Opaque,
                };
                self.push(global)?;
            }
            0x82 => self.opaque(1)?,
            0x83 => self.opaque(2)?,
            0x84 => self.opaque(4)?,
            b'i' => {
                self.global()?;
                let class = self.pop()?;
                let args = self.pop_mark()?;
                self.object_of(class, args)?;
            }
            b'o' => {
                let mut args = self.pop_mark()?;
                if args.is_empty() {
                    return None;
                }
                let class = args.remove(0);
                self.object_of(class, args)?;
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                let class = self.pop()?;
                self.object(class, args)?;
            }
            0x92 => {
                self.pop()?;
                let args = self.pop()?;
                let class = self.pop()?;
                self.object(class, args)?;
            }
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                // The attributes of a dict (a state dict has `_metadata`) are none of its items.
                if let Value::Object(object) = self.values.get_mut(top)? {
                    object.state = Some(state);
                }
            }
            b'P' => {
                let id = self.line()?;
                self.push(string(id))?;
                let id = self.pop()?;
                self.push(Value::Persistent(id))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))?;
            }
            b'p' => {
                let key = self.line().and_then(key)?;
                self.remember(key)?;
            }
            b'q' => self.length::<1>().and_then(|key| self.remember(key as u64))?,
            b'r' => self.length::<4>().and_then(|key| self.remember(key as u64))?,
            0x94 => self.remember(self.memo.len() as u64)?,
            b'g' => {
                let key = self.line().and_then(key)?;
                self.recall(key)?;
            }
            b'h' => self.length::<1>().and_then(|key| self.recall(key as u64))?,
            b'j' => self.length::<4>().and_then(|key| self.recall(key as u64))?,
            _ => return None,
        }
        Some(None)
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..n)?;
        self.at += n;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    /// An unsigned number of `N` bytes.
    fn length<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(N)?;
        let value = bytes.iter().rev().fold(0u64, |value, &b| value << 8 | u64::from(b));
        usize::try_from(value).ok()
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> Option<&'a [u8]> {
        let n = self.bytes.get(self.at..)?.iter().position(|&b| b == b'\n')?;
        let line = self.take(n + 1)?.get(..n)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn push(&mut self, value: Value<'a>) -> Option<()> {
        self.values.push(value);
        self.push_id(self.values.len() - 1)
    }

    fn push_id(&mut self, id: Id) -> Option<()> {
        self.stack.push(id);
        (self.stack.len() <= MAX_STACK).then_some(())
    }

    /// The topmost value above the last mark.
    fn top(&self) -> Option<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..)?.last().copied()
    }

    fn pop(&mut self) -> Option<Id> {
        self.top()?;
        self.stack.pop()
    }

    fn pop_mark(&mut self) -> Option<Vec<Id>> {
        let mark = self.marks.pop()?;
        (mark <= self.stack.len()).then(|| self.stack.split_off(mark))
    }

    fn opaque(&mut self, n: usize) -> Option<()> {
        self.take(n)?;
        self.push(Value::Opaque)
    }

    /// An integer of `n` bytes, two's complement.
    fn long(&mut self, n: usize) -> Option<()> {
        let bytes = self.take(n)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let start = if negative { -1i64 } else { 0 };
        let value = if n > 8 {
            Value::Opaque
        } else {
            Value::Int(bytes.iter().rev().fold(start, |value, &b| value << 8 | i64::from(b)))
        };
        self.push(value)
    }

    fn text<const N: usize>(&mut self) -> Option<()> {
        let n = self.length::<N>()?;
        let text = self.take(n)?;
        self.push(string(text))
    }

    fn global(&mut self) -> Option<()> {
        let global = match (string(self.line()?), string(self.line()?)) {
            (Value::Str(module), Value::Str(name)) => Value::Global(module, name),
            _ => Value::Opaque,
        };
        self.push(global)
    }

    fn object(&mut self, class: Id, args: Id) -> Option<()> {
        self.push(Value::Object(Box::new(Object { class, args, state: None, items: Vec::new() })))
    }

    fn object_of(&mut self, class: Id, args: Vec<Id>) -> Option<()> {
        self.push(Value::Tuple(args))?;
        let args = self.pop()?;
        self.object(class, args)
    }

    /// Appends to the list on top; what an unknown object would make of the items does not matter.
    fn append(&mut self, items: &[Id]) -> Option<()> {
        let top = self.top()?;
        match self.values.get_mut(top)? {
            Value::List(list) => list.extend_from_slice(items),
            Value::Object(_) | Value::Opaque => {}
            _ => return None,
        }
        Some(())
    }

    fn set_items(&mut self, items: &[(Id, Id)]) -> Option<()> {
        let top = self.top()?;
        match self.values.get_mut(top)? {
            Value::Dict(dict) => dict.extend_from_slice(items),
            Value::Object(object) => object.items.extend_from_slice(items),
            Value::Opaque => {}
            _ => return None,
        }
        Some(())
    }

    fn remember(&mut self, key: u64) -> Option<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        (self.memo.len() <= MAX_MEMO).then_some(())
    }

    fn recall(&mut self, key: u64) -> Option<()> {
        let id = *self.memo.get(&key)?;
        self.push_id(id)
    }
}

fn decimal<'a>(digits: &[u8]) -> Value<'a> {
    std::str::from_utf8(digits).ok().and_then(|d| d.trim().parse().ok()).map_or(Value::Opaque, Value::Int)
}

fn key(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

/// Bytes that are not UTF-8 (Python 2 had such strings) name nothing here.
fn string(bytes: &[u8]) -> Value<'_> {
    std::str::from_utf8(bytes).map_or(Value::Opaque, Value::Str)
}

/// Keys and values in turn.
fn pairs(items: &[Id]) -> Option<Vec<(Id, Id)>> {
    let (pairs, odd) = items.as_chunks::<2>();
    odd.is_empty().then(|| pairs.iter().map(|&[key, value]| (key, value)).collect())
}
