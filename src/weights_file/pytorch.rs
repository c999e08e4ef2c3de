//! PyTorch checkpoints: the state dict within a pickle, and the storages beside it.

use super::pickle::{self, Id, Object, Pickle, Value};
use super::tensor::{View, decode, named};
use super::zip::Zip;
use super::{Dtype, RawTensor, shown, sniff};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Where training code puts the state dict, most wanted first.
const PLACES: [&str; 5] = ["model", "state_dict", "params", "params_ema", "model_ema"];
/// Dicts within dicts that are looked through.
const DEPTH: usize = 3;
/// Elements of all tensors that are read beyond one per byte of the file, which only tensors that share storage need.
const SPARE: usize = 1 << 12;

type Tensors = BTreeMap<String, RawTensor>;

/// A checkpoint since PyTorch 1.6.
pub(super) fn parse_zip(bytes: &[u8]) -> Result<Tensors, String> {
    let mut zip = Zip::new(bytes)?;
    let root = zip.names().find_map(|n| n.strip_suffix("data.pkl").filter(|r| r.is_empty() || r.ends_with('/')));
    let Some(root) = root else {
        return Err(sniff::not_weights("a zip archive of something else"));
    };
    if zip.names().any(|n| n.strip_prefix(root) == Some("constants.pkl")) {
        return Err("a TorchScript program: save model.state_dict() with torch.save instead".into());
    }
    if zip.get(&format!("{root}byteorder"))?.is_some_and(|order| order.starts_with(b"big")) {
        return Err("saved on a big-endian machine, which is not supported".into());
    }
    let pickle = pickle::load(zip.get(&format!("{root}data.pkl"))?.unwrap_or_default())?;
    tensors(&pickle, bytes.len(), |key| zip.get(&format!("{root}data/{key}")))
}

/// A checkpoint from before PyTorch 1.6: five pickles (a magic number, a version, the machine, the object, the keys of
/// the storages), then the storages.
pub(super) fn parse_legacy(bytes: &[u8]) -> Result<Tensors, String> {
    let mut rest = bytes;
    let mut next = || -> Result<Pickle, String> {
        let pickle = pickle::load(rest)?;
        rest = rest.get(pickle.length..).unwrap_or_default();
        Ok(pickle)
    };
    next()?;
    let version = next()?;
    if !matches!(version.get(version.top), Value::Int(1001)) {
        return Err("an unknown version of the format before PyTorch 1.6: save it with a current PyTorch again".into());
    }
    let machine = next()?;
    let little = items(&machine, machine.top).and_then(|i| field(&machine, i, "little_endian"));
    if little.is_some_and(|id| matches!(machine.get(id), Value::Bool(false))) {
        return Err("saved on a big-endian machine, which is not supported".into());
    }
    let object = next()?;
    let keys = next()?;

    let sizes: HashMap<&str, usize> = object
        .values()
        .filter_map(|v| if let Value::Persistent(id) = v { storage(&object, *id) } else { None })
        .filter_map(|s| Some((s.key, storage_size(s.kind)?)))
        .collect();
    let Value::List(order) = keys.get(keys.top) else {
        return Err("its list of storages is missing: damaged".into());
    };
    let mut storages: HashMap<&str, &[u8]> = HashMap::new();
    for id in order {
        let Value::Str(key) = keys.get(*id) else { return Err("its list of storages is damaged".into()) };
        let size = *sizes.get(*key).ok_or_else(|| format!("storage {}: of unknown type", shown(key)))?;
        let (count, behind) = rest.split_first_chunk::<8>().ok_or("cut short")?;
        let length = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|n| n.checked_mul(size));
        let (content, behind) = length
            .and_then(|n| behind.split_at_checked(n))
            .ok_or_else(|| format!("storage {}: longer than the file: damaged or cut short", shown(key)))?;
        storages.insert(key, content);
        rest = behind;
    }
    tensors(&object, bytes.len(), |key| Ok(storages.get(key).copied()))
}

/// The tensors of the state dict in `pickle`, from the storages that `find` has by key.
pub(super) fn tensors<'s>(
    pickle: &Pickle,
    length: usize,
    mut find: impl FnMut(&str) -> Result<Option<&'s [u8]>, String>,
) -> Result<Tensors, String> {
    let mut left = length.saturating_add(SPARE);
    let mut tensors = BTreeMap::new();
    for &(key, value) in state_dict(pickle)? {
        let Value::Str(name) = pickle.get(key) else { continue };
        let Some(recipe) = recipe(pickle, value) else { continue };
        let tensor = read(pickle, name, recipe, &mut left, &mut find)?;
        if tensors.insert(name.to_string(), tensor).is_some() {
            return Err(named(name, "there twice"));
        }
    }
    Ok(tensors)
}

fn read<'s>(
    pickle: &Pickle,
    name: &str,
    recipe: Recipe,
    left: &mut usize,
    find: &mut impl FnMut(&str) -> Result<Option<&'s [u8]>, String>,
) -> Result<RawTensor, String> {
    let unfit = |message: &str| named(name, message);
    let args = match recipe {
        Recipe::Dense(args) => args,
        Recipe::Other(function) => {
            return Err(unfit(&format!("made by {}, which is not supported: save a dense tensor", shown(function))));
        }
    };
    let [place, offset, shape, stride, ..] = args else { return Err(unfit("described by too few numbers")) };
    let Value::Persistent(place) = pickle.get(*place) else { return Err(unfit("without a storage")) };
    let place = storage(pickle, *place).ok_or_else(|| unfit("its storage is described in an unknown way"))?;
    if place.view {
        return Err(unfit("saved by a PyTorch before 0.4: save it with a current one again"));
    }
    // Storages without a type came with types that the named storages do not have; the tensor then says its own.
    let kind = match args.get(6).map(|id| pickle.get(*id)) {
        Some(Value::Global(_, dtype)) if place.kind == "UntypedStorage" => dtype,
        _ => place.kind,
    };
    let dtype = dtype(kind).ok_or_else(|| {
        unfit(&format!("type {} is not supported", shown(kind.strip_suffix("Storage").unwrap_or(kind))))
    })?;
    let numbers = |id: Id, what: &str| {
        sizes(pickle, id).ok_or_else(|| unfit(&format!("its {what} is not made of numbers from 0 up")))
    };
    let offset = match pickle.get(*offset) {
        Value::Int(n) => usize::try_from(*n).ok(),
        _ => None,
    };
    let offset = offset.ok_or_else(|| unfit("its offset is not a number from 0 up"))?;
    let view = View { shape: numbers(*shape, "shape")?, stride: numbers(*stride, "stride")?, offset };
    let count = view.count().map_err(|e| unfit(&e))?;
    let storage = find(place.key)?.ok_or_else(|| unfit(&format!("its storage {} is missing", shown(place.key))))?;
    let claimed = place.count.checked_mul(dtype.size());
    let storage = claimed.and_then(|n| storage.get(..n)).ok_or_else(|| {
        unfit(&format!("its storage has {} bytes for {} elements of {dtype:?}", storage.len(), place.count))
    })?;
    if dtype.is_float() {
        *left = left.checked_sub(count).ok_or_else(|| {
            unfit("the tensors have many times more elements than the file: save contiguous copies of them")
        })?;
    }
    decode(name, dtype, storage, view)
}

/// How a tensor is made.
enum Recipe<'p> {
    /// From storage, offset, shape and strides.
    Dense(&'p [Id]),
    /// By this function.
    Other(&'p str),
}

/// The recipe for `id`, `None` if it is no tensor.
fn recipe<'p>(pickle: &'p Pickle, id: Id) -> Option<Recipe<'p>> {
    let Value::Object(object) = pickle.get(id) else { return None };
    let (mut class, mut args) = (object.class, object.args);
    // A parameter around a subclass around a tensor, and no deeper.
    for _ in 0..4 {
        let (Value::Global(module, name), Value::Tuple(list)) = (pickle.get(class), pickle.get(args)) else {
            return None;
        };
        match (*module, *name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                return Some(Recipe::Dense(list));
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                let Value::Object(inner) = pickle.get(*list.first()?) else { return None };
                (class, args) = (inner.class, inner.args);
            }
            ("torch._tensor", "_rebuild_from_type_v2") => (class, args) = (*list.first()?, *list.get(2)?),
            ("torch._utils", other) if other.starts_with("_rebuild_") => return Some(Recipe::Other(name)),
            _ => return None,
        }
    }
    None
}

/// What a persistent id of PyTorch says.
struct Storage<'p> {
    kind: &'p str,
    key: &'p str,
    count: usize,
    /// It is part of another one, which PyTorch wrote long ago.
    view: bool,
}

fn storage<'p>(pickle: &'p Pickle, id: Id) -> Option<Storage<'p>> {
    let Value::Tuple(fields) = pickle.get(id) else { return None };
    let [tag, kind, key, _, count, view @ ..] = fields.as_slice() else { return None };
    match (pickle.get(*tag), pickle.get(*kind), pickle.get(*key), pickle.get(*count)) {
        (Value::Str(tag), Value::Global(module, kind), Value::Str(key), Value::Int(count))
            if *tag == "storage" && module.starts_with("torch") =>
        {
            let view = view.first().is_some_and(|v| !matches!(pickle.get(*v), Value::None));
            Some(Storage { kind, key, count: usize::try_from(*count).ok()?, view })
        }
        _ => None,
    }
}

/// By the class of a storage, or the name of a `torch.dtype`.
fn dtype(kind: &str) -> Option<Dtype> {
    Some(match kind {
        "HalfStorage" | "float16" => Dtype::F16,
        "BFloat16Storage" | "bfloat16" => Dtype::BF16,
        "FloatStorage" | "float32" => Dtype::F32,
        "DoubleStorage" | "float64" => Dtype::F64,
        "CharStorage" | "int8" => Dtype::I8,
        "ByteStorage" | "uint8" => Dtype::U8,
        "ShortStorage" | "int16" => Dtype::I16,
        "uint16" => Dtype::U16,
        "IntStorage" | "int32" => Dtype::I32,
        "uint32" => Dtype::U32,
        "LongStorage" | "int64" => Dtype::I64,
        "uint64" => Dtype::U64,
        "BoolStorage" | "bool" => Dtype::Bool,
        _ => return None,
    })
}

/// Bytes of an element, also of the types that are not read: their storages have to be passed over.
fn storage_size(kind: &str) -> Option<usize> {
    match kind {
        "ComplexFloatStorage" => Some(8),
        "ComplexDoubleStorage" => Some(16),
        "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" | "UntypedStorage" => Some(1),
        "QInt32Storage" => Some(4),
        _ => dtype(kind).map(Dtype::size),
    }
}

fn sizes(pickle: &Pickle, id: Id) -> Option<Vec<usize>> {
    let (Value::Tuple(list) | Value::List(list)) = pickle.get(id) else { return None };
    let one = |id: &Id| if let Value::Int(n) = pickle.get(*id) { usize::try_from(*n).ok() } else { None };
    list.iter().map(one).collect()
}

/// The entries of a dict, or of an object that got some as a dict would (an OrderedDict).
fn items<'p>(pickle: &'p Pickle, id: Id) -> Option<&'p [(Id, Id)]> {
    match pickle.get(id) {
        Value::Dict(items) => Some(items),
        Value::Object(object) if !object.items.is_empty() || is_dict(pickle, object) => Some(&object.items),
        _ => None,
    }
}

fn is_dict(pickle: &Pickle, object: &Object) -> bool {
    matches!(pickle.get(object.class), Value::Global(_, "OrderedDict" | "defaultdict"))
}

/// The value under `name`; like Python, the last one.
fn field(pickle: &Pickle, items: &[(Id, Id)], name: &str) -> Option<Id> {
    let is = |id: Id| matches!(pickle.get(id), Value::Str(key) if *key == name);
    items.iter().rev().find(|(key, _)| is(*key)).map(|(_, value)| *value)
}

fn has_tensors(pickle: &Pickle, items: &[(Id, Id)]) -> bool {
    items.iter().any(|(key, value)| matches!(pickle.get(*key), Value::Str(_)) && recipe(pickle, *value).is_some())
}

/// Whether this is a network itself, not only its weights.
fn is_module(pickle: &Pickle, id: Id) -> bool {
    let Value::Object(object) = pickle.get(id) else { return false };
    let state = object.state.and_then(|state| items(pickle, state));
    state.is_some_and(|items| field(pickle, items, "_parameters").is_some())
}

fn state_dict<'p>(pickle: &'p Pickle) -> Result<&'p [(Id, Id)], String> {
    let top = items(pickle, pickle.top);
    let places = PLACES.iter().filter_map(|place| field(pickle, top?, place));
    if is_module(pickle, pickle.top) || places.into_iter().any(|id| is_module(pickle, id)) {
        return Err("a whole module, which only its own program can load: save model.state_dict() instead".into());
    }
    if recipe(pickle, pickle.top).is_some() {
        return Err("one tensor without a name: save model.state_dict() instead".into());
    }
    let Some(top) = top else {
        return Err("no state dict in it: save model.state_dict() instead".into());
    };
    search(pickle, top, DEPTH).ok_or_else(|| {
        let mut keys = Vec::new();
        for (key, _) in top.iter().take(8) {
            if let Value::Str(key) = pickle.get(*key) {
                keys.push(shown(key));
            }
        }
        let more = if top.len() > 8 { ", ..." } else { "" };
        format!("no state dict in it, only: {}{more}", keys.join(", "))
    })
}

fn search<'p>(pickle: &'p Pickle, at: &'p [(Id, Id)], depth: usize) -> Option<&'p [(Id, Id)]> {
    for place in PLACES {
        let inner = field(pickle, at, place).and_then(|id| items(pickle, id));
        if let Some(found) = inner.filter(|_| depth > 0).and_then(|inner| search(pickle, inner, depth - 1)) {
            return Some(found);
        }
    }
    if has_tensors(pickle, at) {
        return Some(at);
    }
    // Each dict once, however many names it has.
    let distinct: BTreeSet<Id> = at.iter().map(|(_, value)| *value).collect();
    let mut dicts = distinct.into_iter().filter_map(|id| items(pickle, id)).filter(|i| has_tensors(pickle, i));
    dicts.next().filter(|_| dicts.next().is_none())
}
