//! A frei0r filter that scores the frames that pass: the C functions that hosts such as ffmpeg and MLT look for.
//!
//! Frames pass as they are, and scores go to a log (see [`log`](crate::log)). Parameters, in this order:
//!
//! | | name | type | default | meaning |
//! |---|---|---|---|---|
//! | 0 | `log` | string | | file to write, `.jsonl`, `.csv` or `.json`; without one nothing is scored |
//! | 1 | `crops` | double | 4 | crops scored in each frame, 1 to 64 |
//! | 2 | `interval` | double | 0 | seconds between scored frames; 0: every frame |
//! | 3 | `style-prompt` | string | none | style prompt: none, an embedded one, or a weights file |
//! | 4 | `model` | string | qmamba-nano | embedded model or weights file |
//! | 5 | `time-unit` | double | 0.001 | seconds in a unit of the host's time: ffmpeg gives milliseconds; 1 for hosts that give seconds, as frei0r asks for |
//! | 6 | `scales` | string | auto | sizes of the picture that crops are taken of: `auto`, or reductions such as `1,2,4` |
//! | 7 | `display-height` | double | 0 | rows of the display that quality is judged on; 0: the picture's own |
//!
//! They are read with the first frame; a change after that starts the filter anew, which needs another log: a process begins each
//! log once. frei0r has no errors: what is wrong is said in one line on standard error, and frames pass without scores from there
//! on.
//!
//! This is the ABI of frei0r 1.2, written down after its specification. It is the one file of the filter with `unsafe`: every
//! pointer is the host's.

mod filter;

use filter::{Filter, PARAMETERS, Value};
use parking_lot::Mutex;
use std::ffi::{CStr, c_char, c_double, c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

const FREI0R_MAJOR_VERSION: c_int = 1;
const PLUGIN_TYPE_FILTER: c_int = 0;
const COLOR_MODEL_RGBA8888: c_int = 1;
const PARAM_DOUBLE: c_int = 1;
const PARAM_STRING: c_int = 4;

/// frei0r's `f0r_plugin_info_t`.
#[repr(C)]
pub struct PluginInfo {
    name: *const c_char,
    author: *const c_char,
    plugin_type: c_int,
    color_model: c_int,
    frei0r_version: c_int,
    major_version: c_int,
    minor_version: c_int,
    num_params: c_int,
    explanation: *const c_char,
}

/// frei0r's `f0r_param_info_t`.
#[repr(C)]
pub struct ParamInfo {
    name: *const c_char,
    kind: c_int,
    explanation: *const c_char,
}

/// What frei0r's `f0r_instance_t` points to. Locked, since hosts may set parameters while another thread plays.
type Instance = Mutex<Filter>;

/// Runs what must not unwind into C. A panic has said on standard error what it is.
fn guarded<T>(otherwise: T, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(otherwise)
}

fn index(param_index: c_int) -> Option<usize> {
    usize::try_from(param_index).ok().filter(|&index| index < PARAMETERS.len())
}

/// Called once after loading; 1 is well.
// SAFETY of the export, here and below: frei0r's names, which nothing else in the process defines for this library.
#[unsafe(no_mangle)]
pub extern "C" fn f0r_init() -> c_int {
    1
}

/// Called once before unloading.
#[unsafe(no_mangle)]
pub extern "C" fn f0r_deinit() {}

/// Says what the plugin is.
///
/// # Safety
/// `info` is null or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f0r_get_plugin_info(info: *mut PluginInfo) {
    if info.is_null() {
        return;
    }
    // SAFETY: by the caller's promise; texts are static.
    unsafe {
        info.write(PluginInfo {
            name: c"qmambaiqa".as_ptr(),
            author: c"qmambaiqa".as_ptr(),
            plugin_type: PLUGIN_TYPE_FILTER,
            color_model: COLOR_MODEL_RGBA8888,
            frei0r_version: FREI0R_MAJOR_VERSION,
            major_version: 0,
            minor_version: 1,
            num_params: PARAMETERS.len() as c_int,
            explanation: c"Scores the quality of frames without a reference, into a log; frames pass as they are"
                .as_ptr(),
        });
    }
}

/// Says what a parameter is.
///
/// # Safety
/// `info` is null or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f0r_get_param_info(info: *mut ParamInfo, param_index: c_int) {
    let Some(index) = index(param_index).filter(|_| !info.is_null()) else { return };
    let parameter = &PARAMETERS[index];
    let kind = if parameter.is_text { PARAM_STRING } else { PARAM_DOUBLE };
    // SAFETY: by the caller's promise; texts are static.
    unsafe {
        info.write(ParamInfo { name: parameter.name.as_ptr(), kind, explanation: parameter.explanation.as_ptr() })
    };
}

/// A new instance for frames of that size; null where there can be none, which is said.
#[unsafe(no_mangle)]
pub extern "C" fn f0r_construct(width: c_uint, height: c_uint) -> *mut c_void {
    guarded(std::ptr::null_mut(), || match Filter::new(width as usize, height as usize) {
        Ok(filter) => Box::into_raw(Box::new(Instance::new(filter))).cast(),
        Err(error) => {
            filter::complain(&error);
            std::ptr::null_mut()
        }
    })
}

/// Ends an instance and its log.
///
/// # Safety
/// `instance` is null, or of [`f0r_construct`] and not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f0r_destruct(instance: *mut c_void) {
    if !instance.is_null() {
        // SAFETY: `f0r_construct` made it of such a box, and by the caller's promise it is given back once.
        let instance = unsafe { Box::from_raw(instance.cast::<Instance>()) };
        guarded((), || drop(instance));
    }
}

/// Sets a parameter: `param` points to a double, or to a pointer to a text.
///
/// # Safety
/// `instance` is of [`f0r_construct`]; `param` is null or as said above, the text ending with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f0r_set_param_value(instance: *mut c_void, param: *mut c_void, param_index: c_int) {
    let Some(index) = index(param_index).filter(|_| !instance.is_null() && !param.is_null()) else { return };
    // SAFETY: by the caller's promise; the host may not align what it points to.
    let value = unsafe {
        if PARAMETERS[index].is_text {
            let text = param.cast::<*const c_char>().read_unaligned();
            if text.is_null() {
                return;
            }
            Value::Text(CStr::from_ptr(text).to_owned())
        } else {
            Value::Number(param.cast::<c_double>().read_unaligned())
        }
    };
    // SAFETY: by the caller's promise; shared, and locked within.
    let instance = unsafe { &*instance.cast::<Instance>() };
    guarded((), || instance.lock().set(index, value));
}

/// Gives a parameter: `param` points to room for a double, or for a pointer to a text, which is good until the parameter is set
/// or the instance ends.
///
/// # Safety
/// As [`f0r_set_param_value`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f0r_get_param_value(instance: *mut c_void, param: *mut c_void, param_index: c_int) {
    let Some(index) = index(param_index).filter(|_| !instance.is_null() && !param.is_null()) else { return };
    // SAFETY: by the caller's promise; shared, and locked within.
    let instance = unsafe { &*instance.cast::<Instance>() };
    let filter = instance.lock();
    // SAFETY: by the caller's promise there is room for what the parameter's type says.
    unsafe {
        match filter.get(index) {
            Value::Number(number) => param.cast::<c_double>().write_unaligned(*number),
            Value::Text(text) => param.cast::<*const c_char>().write_unaligned(text.as_ptr()),
        }
    }
}

/// Passes a frame, `time` in units of `time-unit`, and scores it where it is due.
///
/// # Safety
/// `instance` is of [`f0r_construct`]; both frames have the pixels that it was made for, in rows without gaps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f0r_update(instance: *mut c_void, time: c_double, inframe: *const u32, outframe: *mut u32) {
    if instance.is_null() || inframe.is_null() || outframe.is_null() {
        return;
    }
    // SAFETY: by the caller's promise; shared, and locked within.
    let mut filter = unsafe { &*instance.cast::<Instance>() }.lock();
    let pixels = filter.pixels();
    // SAFETY: by the caller's promise; `copy` allows that both are one. Bytes need no alignment, and nothing writes to them while
    // they are borrowed.
    let frame = unsafe {
        std::ptr::copy(inframe.cast::<u8>(), outframe.cast::<u8>(), 4 * pixels);
        std::slice::from_raw_parts(inframe.cast::<u8>(), 4 * pixels)
    };
    guarded((), || filter.update(time, frame));
}
