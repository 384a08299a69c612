//! `adapter_model.bin`: reads the tensors of a file of `torch.save` without running its pickle.
//!
//! A pickle is a program. This is a machine for the few instructions that a dict of tensors is made
//! of (Python's `Lib/pickletools.py` has them all); a function is a name here, and what is not on
//! the list is refused. Tuples and dicts lie in two lists, so that neither nesting nor sharing
//! costs more than the bytes that say it.

use super::tensor_names::check_name;
use super::zip::Archive;
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

/// Bytes of instructions at most: those of an adapter of 10,000 layers take 3 MB.
const PROGRAM: usize = 64 << 20;
const HELP: &str = "take adapter_model.safetensors, and do not open this file with torch.load";

/// Reads all tensors of a file that `torch.save` wrote.
///
/// # Errors
/// When the file is damaged, of the format before PyTorch 1.6, or when its pickle asks for anything
/// but tensors; the error names what was refused.
pub(super) fn read_bin(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    if file.metadata().map_err(|e| Error::io(path, e))?.len() == 0 {
        return Err(Error::format("the file is empty").path(path).help("fetch it again"));
    }
    // SAFETY: the mapping is read here and its tensors are copied out; a program that cuts the file in
    // those moments kills this one, as it would with any mapped file.
    let file = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    crate::files::refuse_pointer(path, &file)?;
    tensors(&file).map_err(|e| e.path(path))
}

fn tensors(file: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    match file {
        [b'P', b'K', ..] => {}
        [0x80, ..] => {
            return Err(Error::format(
                "this is the format of PyTorch before 1.6, a pickle without a zip archive",
            )
            .help("in Python, torch.load it with weights_only=True and torch.save it again"));
        }
        _ => {
            return Err(Error::format(
                "this is no file of torch.save: it begins with neither PK nor a pickle",
            )
            .help("take adapter_model.safetensors"));
        }
    }
    let archive = Archive::read(file)?;
    let program: Vec<&str> = archive.names().filter(|name| name.ends_with("/data.pkl")).collect();
    let [name] = program[..] else {
        return Err(Error::format(format!(
            "the archive has {} entries data.pkl, expected one",
            program.len()
        ))
        .help("this is no file of torch.save"));
    };
    let root = name.trim_end_matches("data.pkl");
    let order = format!("{root}byteorder");
    if archive.names().any(|name| name == order) && archive.get(&order)? != b"little" {
        return Err(Error::format("the numbers are big-endian, which is not supported"));
    }
    let program = archive.get(name)?;
    if program.len() > PROGRAM {
        let size = crate::display::bytes(program.len() as u64);
        return Err(Error::format(format!("a pickle of {size} for an adapter is refused")).help(HELP));
    }
    let mut machine = Machine::default();
    let top = machine.run(program)?;
    let Value::Dict(top) = top else {
        return Err(Error::format(format!("the pickle holds {}, expected a dict of tensors", top.name())));
    };
    let mut left = file.len();
    let mut tensors = BTreeMap::new();
    for (name, value) in &machine.dicts[top] {
        let Value::Text(from, to) = *name else {
            return Err(Error::format(format!("a tensor's name is {}", name.name())));
        };
        let name = text(&program[from..to])?;
        check_name(name)?;
        let Value::Tensor(view) = *value else {
            return Err(Error::format(format!("{name:?} is {}, expected a tensor", value.name())));
        };
        let view = &machine.views[view];
        let tensor = load(view, &archive, root, &mut left).map_err(|e| e.layer(name))?;
        tensors.insert(name.to_string(), tensor);
    }
    Ok(tensors)
}

/// Copies a tensor out of its storage. All of them together are no larger than the file.
fn load(view: &View, archive: &Archive, root: &str, left: &mut usize) -> Result<Tensor> {
    let storage = archive.get(&format!("{root}data/{}", view.key))?;
    let width = view.dtype.size_in_bytes();
    let count = view.sizes.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    // One past the last element that the sizes and strides reach.
    let reach = view.sizes.iter().zip(&view.strides).try_fold(view.offset, |all, (size, stride)| {
        size.saturating_sub(1).checked_mul(*stride).and_then(|far| all.checked_add(far))
    });
    let shape = &view.sizes;
    let (Some(count), Some(reach)) = (count, reach) else {
        return Err(Error::format(format!("a tensor of shape {shape:?} fits into no file")));
    };
    if count == 0 || reach >= storage.len() / width {
        return Err(Error::format(format!(
            "a tensor of shape {shape:?} from element {} on, beside {} bytes of numbers",
            view.offset,
            storage.len()
        ))
        .help("the file is damaged or made to harm: fetch it again, from a source that you trust"));
    }
    let bytes = count.checked_mul(width).filter(|bytes| bytes <= left).ok_or_else(|| {
        Error::format(format!(
            "its tensors claim more numbers than the file has, here one of shape {shape:?}"
        ))
        .help("a file that repeats its numbers is refused: fetch it again, from a source that you trust")
    })?;
    *left -= bytes;
    let mut dense = 1;
    let mut contiguous = true;
    for (size, stride) in view.sizes.iter().zip(&view.strides).rev() {
        contiguous &= *size == 1 || *stride == dense;
        dense *= size;
    }
    if contiguous {
        let from = view.offset * width;
        return Ok(Tensor::from_raw_buffer(&storage[from..from + bytes], view.dtype, shape, &Device::Cpu)?);
    }
    let mut out = Vec::with_capacity(bytes);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        let element =
            view.offset + index.iter().zip(&view.strides).map(|(i, stride)| i * stride).sum::<usize>();
        out.extend_from_slice(&storage[element * width..(element + 1) * width]);
        for (i, size) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *size {
                break;
            }
            *i = 0;
        }
    }
    Ok(Tensor::from_raw_buffer(&out, view.dtype, shape, &Device::Cpu)?)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::format("a string in the pickle is no UTF-8"))
}

/// A value on the stack of the machine; large values are indices into its lists.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Mark,
    /// None, booleans and floats: they mean nothing for a tensor.
    Other,
    Int(i64),
    /// A range of bytes of the program.
    Text(usize, usize),
    Class(Class),
    Tuple(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value {
    fn name(self) -> &'static str {
        match self {
            Self::Mark => "a mark",
            Self::Other => "a constant",
            Self::Int(_) => "a number",
            Self::Text(..) => "a string",
            Self::Class(_) => "a function",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// The functions and classes that a pickle may use.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    OrderedDict,
    Rebuild,
    Parameter,
    Storage(DType),
}

impl Class {
    fn of(module: &str, name: &str) -> Result<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Self::Rebuild),
            ("torch._utils", "_rebuild_parameter") => Ok(Self::Parameter),
            ("torch", "FloatStorage") => Ok(Self::Storage(DType::F32)),
            ("torch", "DoubleStorage") => Ok(Self::Storage(DType::F64)),
            ("torch", "HalfStorage") => Ok(Self::Storage(DType::F16)),
            ("torch", "BFloat16Storage") => Ok(Self::Storage(DType::BF16)),
            _ => {
                let name = crate::display::cut(&format!("{module}.{name}"), 80);
                Err(Error::format(format!("the pickle asks for {name}, which is refused")).help(HELP))
            }
        }
    }
}

#[derive(Debug)]
struct Storage {
    key: String,
    dtype: DType,
}

/// A tensor as strides over a storage, in elements.
#[derive(Debug)]
struct View {
    key: String,
    dtype: DType,
    offset: usize,
    sizes: Vec<usize>,
    strides: Vec<usize>,
}

#[derive(Default)]
struct Machine {
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    tuples: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    views: Vec<View>,
}

fn cut() -> Error {
    Error::format("the pickle is cut off or damaged").help("fetch the file again")
}

/// The instructions, read from the front.
struct Reader<'a> {
    program: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or_else(cut)?;
        let bytes = self.program.get(self.at..end).ok_or_else(cut)?;
        self.at = end;
        Ok(bytes)
    }

    fn number(&mut self, count: usize) -> Result<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    }

    fn string(&mut self, width: usize) -> Result<Value> {
        let length = usize::try_from(self.number(width)?).map_err(|_| cut())?;
        let from = self.at;
        self.take(length)?;
        Ok(Value::Text(from, self.at))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = self.program.get(self.at..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).ok_or_else(cut)?;
        self.at += length + 1;
        text(&rest[..length])
    }
}

impl Machine {
    fn run(&mut self, program: &[u8]) -> Result<Value> {
        let mut reader = Reader { program, at: 0 };
        loop {
            let at = reader.at;
            let opcode = reader.number(1)? as u8;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode, &mut reader).map_err(|e| match e.is_input() {
                true => {
                    Error::format(format!("instruction {opcode:#04x} at byte {at} of the pickle is refused"))
                        .help(HELP)
                }
                false => e,
            })?;
        }
    }

    fn step(&mut self, opcode: u8, reader: &mut Reader) -> Result<()> {
        let value = match opcode {
            0x80 => return reader.take(1).map(drop), // PROTO
            0x95 => return reader.take(8).map(drop), // FRAME
            b'c' => {
                let module = reader.line()?;
                Value::Class(Class::of(module, reader.line()?)?)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(a, b), Value::Text(c, d)) = (module, name) else { return Err(cut()) };
                Value::Class(Class::of(text(&reader.program[a..b])?, text(&reader.program[c..d])?)?)
            }
            b'X' => reader.string(4)?,
            0x8c => reader.string(1)?,
            0x8d => reader.string(8)?,
            b'J' => Value::Int(i64::from(reader.number(4)? as u32 as i32)),
            b'K' => Value::Int(reader.number(1)? as i64),
            b'M' => Value::Int(reader.number(2)? as i64),
            0x8a => {
                let count = reader.number(1)? as usize;
                if count > 8 {
                    return Err(Error::format(format!("a number of {count} bytes in the pickle is refused")));
                }
                let number = reader.number(count)?;
                // The highest bit is the sign.
                let unused = 64 - 8 * count as u32;
                Value::Int(if count == 0 { 0 } else { ((number << unused) as i64) >> unused })
            }
            b'G' => {
                reader.take(8)?;
                Value::Other
            }
            b'N' | 0x88 | 0x89 => Value::Other, // None, True, False
            b'(' => Value::Mark,
            b')' => self.tuple(Vec::new()),
            b't' => {
                let items = self.pop_to_mark()?;
                self.tuple(items)
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(opcode - 0x84)).ok_or_else(cut)?;
                let items = self.stack.split_off(from);
                self.tuple(items)
            }
            b'}' => self.dict(),
            b's' | b'u' => {
                let items = match opcode {
                    b'u' => self.pop_to_mark()?,
                    _ => self.stack.split_off(self.stack.len().checked_sub(2).ok_or_else(cut)?),
                };
                let Some(Value::Dict(dict)) = self.stack.last().copied() else { return Err(cut()) };
                if !items.len().is_multiple_of(2) {
                    return Err(cut());
                }
                self.dicts[dict].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                return Ok(());
            }
            b'q' | b'r' | 0x94 => {
                let slot = match opcode {
                    b'q' => reader.number(1)? as u32,
                    b'r' => reader.number(4)? as u32,
                    _ => self.memo.len() as u32,
                };
                let value = *self.stack.last().ok_or_else(cut)?;
                self.memo.insert(slot, value);
                return Ok(());
            }
            b'h' | b'j' => {
                let slot = reader.number(if opcode == b'h' { 1 } else { 4 })? as u32;
                *self.memo.get(&slot).ok_or_else(cut)?
            }
            b'Q' => self.storage(reader.program)?,
            b'R' => self.reduce()?,
            b'b' => {
                // The attributes of an object: an OrderedDict of torch has its `_metadata` there.
                self.pop()?;
                match self.stack.last() {
                    Some(Value::Dict(_)) => return Ok(()),
                    _ => return Err(Error::input("BUILD")),
                }
            }
            _ => return Err(Error::input("unknown")),
        };
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or_else(cut)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| *value == Value::Mark).ok_or_else(cut)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn tuple(&mut self, items: Vec<Value>) -> Value {
        self.tuples.push(items);
        Value::Tuple(self.tuples.len() - 1)
    }

    fn dict(&mut self) -> Value {
        self.dicts.push(Vec::new());
        Value::Dict(self.dicts.len() - 1)
    }

    fn items(&self, value: Value) -> Result<&[Value]> {
        match value {
            Value::Tuple(tuple) => Ok(&self.tuples[tuple]),
            other => Err(Error::format(format!("the pickle has {} where a tuple belongs", other.name()))),
        }
    }

    /// `('storage', torch.FloatStorage, '0', 'cpu', 15)`
    fn storage(&mut self, program: &[u8]) -> Result<Value> {
        let id = self.pop()?;
        let &[_, Value::Class(Class::Storage(dtype)), Value::Text(from, to), _, Value::Int(_)] =
            self.items(id)?
        else {
            return Err(Error::format("the pickle names a storage in an unknown way").help(HELP));
        };
        let key = text(&program[from..to])?.to_string();
        self.storages.push(Storage { key, dtype });
        Ok(Value::Storage(self.storages.len() - 1))
    }

    fn reduce(&mut self) -> Result<Value> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        match function {
            Value::Class(Class::OrderedDict) if self.items(arguments)?.is_empty() => Ok(self.dict()),
            Value::Class(Class::Parameter) => match self.items(arguments)? {
                [tensor @ Value::Tensor(_), ..] => Ok(*tensor),
                _ => Err(Error::format("a parameter in the pickle is no tensor")),
            },
            Value::Class(Class::Rebuild) => {
                let view = self.view(arguments)?;
                self.views.push(view);
                Ok(Value::Tensor(self.views.len() - 1))
            }
            other => {
                Err(Error::format(format!("the pickle calls {}, which is refused", other.name())).help(HELP))
            }
        }
    }

    /// `_rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks)`
    fn view(&self, arguments: Value) -> Result<View> {
        const RANK: usize = 8;
        let unknown = || Error::format("the pickle makes a tensor in an unknown way").help(HELP);
        let [Value::Storage(storage), Value::Int(offset), sizes, strides, ..] = self.items(arguments)? else {
            return Err(unknown());
        };
        let numbers = |value: Value| -> Result<Vec<usize>> {
            let items = self.items(value)?;
            let number = |value: &Value| match value {
                Value::Int(n) => usize::try_from(*n).ok(),
                _ => None,
            };
            items
                .iter()
                .map(number)
                .collect::<Option<Vec<_>>>()
                .filter(|n| n.len() <= RANK)
                .ok_or_else(unknown)
        };
        let (sizes, strides) = (numbers(*sizes)?, numbers(*strides)?);
        let offset = usize::try_from(*offset).map_err(|_| unknown())?;
        if sizes.len() != strides.len() {
            return Err(unknown());
        }
        let Storage { key, dtype } = &self.storages[*storage];
        Ok(View { key: key.clone(), dtype: *dtype, offset, sizes, strides })
    }
}
