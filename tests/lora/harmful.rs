//! Adapters that are damaged or made to harm: pickles, archives and headers that lie.

use crate::common::archive as files;
use crate::common::archive::{Archive, pickle, safetensors_file};
use crate::common::tiny_adapters::{golden, open, refused};
use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use proptest::prelude::*;
use std::collections::HashMap;
use std::path::PathBuf;
use tempfile::TempDir;

/// An `adapter_model.bin` with this pickle, beside the config of `tiny-adapter`.
fn with_bin(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let config = "adapter_config.json";
    std::fs::copy(golden("tiny-adapter").join(config), folder.path().join(config)).unwrap();
    let path = folder.path().join("adapter_model.bin");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[track_caller]
fn bin_refused(bytes: &[u8]) -> String {
    let (folder, path) = with_bin(bytes);
    refused(folder.path(), &path)
}

fn archive(program: &[u8]) -> Vec<u8> {
    Archive::default().entry("a/data.pkl", program).entry("a/data/0", &[0; 64]).bytes()
}

const SAFE: &str = "; take adapter_model.safetensors, and do not open this file with torch.load";

#[test]
fn pickles_that_ask_for_more_than_tensors() {
    for (program, asked) in [
        (&b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R."[..], "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
        (b"ccollections\ndefaultdict\n)R.", "collections.defaultdict"),
        (b"ctorch\nLongStorage\n.", "torch.LongStorage"),
        (b"ctorch._utils\n_rebuild_qtensor\n.", "torch._utils._rebuild_qtensor"),
    ] {
        assert_eq!(
            bin_refused(&archive(program)),
            format!(": the pickle asks for {asked}, which is refused{SAFE}")
        );
    }
    for (program, what) in [
        // INST, OBJ, NEWOBJ, PERSID, EXT1: other ways to make an object; and lists, which no adapter has.
        (&b"(ios\nsystem\n."[..], "instruction 0x69 at byte 1 of the pickle is refused"),
        (b"(o.", "instruction 0x6f at byte 1 of the pickle is refused"),
        (b"))\x81.", "instruction 0x81 at byte 2 of the pickle is refused"),
        (b"Pid\n.", "instruction 0x50 at byte 0 of the pickle is refused"),
        (b"\x82\x01.", "instruction 0x82 at byte 0 of the pickle is refused"),
        (b"].", "instruction 0x5d at byte 0 of the pickle is refused"),
        (b")}b.", "instruction 0x62 at byte 2 of the pickle is refused"),
        (b"X\x01\x00\x00\x00a)R.", "the pickle calls a string, which is refused"),
    ] {
        assert_eq!(bin_refused(&archive(program)), format!(": {what}{SAFE}"));
    }
}

#[test]
fn pickles_that_are_bombs() {
    let holds = |what: &str| format!(": the pickle holds {what}, expected a dict of tensors");
    // A million tuples in each other, and a tuple of two of the tuple before, a hundred thousand times.
    let deep = [b")".as_slice(), &[0x85].repeat(1_000_000), b"."].concat();
    assert_eq!(bin_refused(&archive(&deep)), holds("a tuple"));
    let doubled = [b")q\x00".as_slice(), &b"h\x00h\x00\x86q\x00".repeat(100_000), b"."].concat();
    assert_eq!(bin_refused(&archive(&doubled)), holds("a tuple"));
    let cut = ": the pickle is cut off or damaged; fetch the file again";
    for program in [
        &b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff."[..],
        b"X\xff\xff\xff\xffab.",
        b"r\xff\xff\xff\xff.",
        b"h\x07.",
        b"\x87.",
        b"t.",
        b"R.",
        b"",
        b"}",
        b"}(NNNu.",
    ] {
        assert_eq!(bin_refused(&archive(program)), cut, "{program:?}");
    }
    assert_eq!(bin_refused(&archive(b"\x8a\xff.")), ": a number of 255 bytes in the pickle is refused");
    // A dict that holds itself.
    assert!(
        bin_refused(&archive(b"}q\x00X\x01\x00\x00\x00ah\x00s."))
            .ends_with("\"a\" is a dict, expected a tensor")
    );
}

/// As names in a safetensors file are.
#[test]
fn names_in_a_pickle_are_looked_at() {
    let long = "q".repeat(513);
    for name in ["", "a\nb", "a\u{1b}[31m", "../up", "a/b", &long] {
        let said = bin_refused(&archive(&pickle(&[(name, "0", 0, &[2], &[1])])));
        assert!(said.contains("is no name for a tensor") && said.len() < 300, "{name:?}: {said}");
    }
}

#[test]
fn tensors_that_are_not_there() {
    let one = |offset: i64, sizes: &[i64], strides: &[i64]| {
        bin_refused(&archive(&pickle(&[("x", "0", offset, sizes, strides)])))
    };
    // The storage has 64 bytes, 16 numbers.
    let beside = |shape: &str, from: usize| {
        format!(
            ", layer x: a tensor of shape {shape} from element {from} on, beside 64 bytes of numbers; \
             the file is damaged or made to harm: fetch it again, from a source that you trust"
        )
    };
    assert_eq!(one(0, &[17], &[1]), beside("[17]", 0));
    assert_eq!(one(1, &[4, 4], &[4, 1]), beside("[4, 4]", 1));
    assert_eq!(one(0, &[1 << 40], &[1]), beside("[1099511627776]", 0));
    assert_eq!(one(0, &[0, 4], &[4, 1]), beside("[0, 4]", 0));
    assert!(one(0, &[1 << 40, 1 << 40], &[1, 1]).contains("fits into no file"));
    assert!(one(0, &[i64::MAX], &[i64::MAX]).contains("fits into no file"));
    assert!(one(0, &[1 << 40], &[0]).contains("its tensors claim more numbers than the file has"));
    for (sizes, strides) in
        [(&[-1i64, 2][..], &[1i64, 1][..]), (&[4], &[-1]), (&[2, 2], &[1]), (&[1; 9], &[1; 9])]
    {
        assert!(one(0, sizes, strides).starts_with(": the pickle makes a tensor in an unknown way"));
    }
    // Many tensors over one storage.
    let names: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let many: Vec<_> = names.iter().map(|n| (n.as_str(), "0", 0, &[16i64][..], &[1i64][..])).collect();
    let large = Archive::default().entry("a/data.pkl", &pickle(&many)).entry("a/data/0", &vec![0; 1 << 20]);
    assert!(open(with_bin(&large.bytes()).0.path()).is_err(), "no adapter, but no harm either");
    let whole: Vec<_> = names.iter().map(|n| (n.as_str(), "0", 0, &[1i64 << 18][..], &[1i64][..])).collect();
    let large = Archive::default().entry("a/data.pkl", &pickle(&whole)).entry("a/data/0", &vec![0; 1 << 20]);
    assert!(bin_refused(&large.bytes()).contains("its tensors claim more numbers than the file has"));
    let elsewhere = archive(&pickle(&[("x", "../../etc/passwd", 0, &[1], &[1])]));
    assert!(bin_refused(&elsewhere).ends_with("the archive has no entry \"a/data/../../etc/passwd\""));
}

#[test]
fn archives_that_are_none() {
    assert_eq!(bin_refused(b""), ": the file is empty; fetch it again");
    assert_eq!(
        bin_refused(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
        ": this is the format of PyTorch before 1.6, a pickle without a zip archive; \
         in Python, torch.load it with weights_only=True and torch.save it again"
    );
    assert!(bin_refused(b"GGUF").starts_with(": this is no file of torch.save"));
    let good = Archive::default().entry("a/data.pkl", b"}.");
    let nothing = bin_refused(&good.bytes());
    assert!(nothing.starts_with(": no adapter inside; DeepSpeed ZeRO-3 saves so"), "{nothing}");
    let cut = ": the zip archive is cut off or damaged; fetch the file again";
    let bytes = good.bytes();
    for length in [4, 30, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(bin_refused(&bytes[..length]), cut, "{length} of {} bytes", bytes.len());
    }
    let twice = Archive::default().entry("a/data.pkl", b"}.").entry("a/data.pkl", b"}.");
    assert_eq!(bin_refused(&twice.bytes()), ": two entries of the archive are called \"a/data.pkl\"");
    let two = Archive::default().entry("a/data.pkl", b"}.").entry("b/data.pkl", b"}.");
    assert!(bin_refused(&two.bytes()).starts_with(": the archive has 2 entries data.pkl, expected one"));
    let big = Archive::default().entry("a/data.pkl", b"}.").entry("a/byteorder", b"big");
    assert_eq!(bin_refused(&big.bytes()), ": the numbers are big-endian, which is not supported");
    let mut packed = Archive::default().entry("a/data.pkl", b"}.");
    packed.method = 8;
    assert!(bin_refused(&packed.bytes()).starts_with(": \"a/data.pkl\" is compressed or encrypted"));
    let mut bytes = good.bytes();
    let at = bytes.windows(2).position(|b| b == b"}.").unwrap();
    bytes[at] = b')';
    assert!(bin_refused(&bytes).starts_with(": the check sum of \"a/data.pkl\" is wrong"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// An error or an adapter, never a panic; with the check sums made right again, so that the
    /// damage is reached.
    #[test]
    fn damaged_archives_never_panic(damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6)) {
        let bytes = std::fs::read(golden("foreign/bin/adapter_model.bin")).unwrap();
        let (from, to) = files::entry(&bytes, "data.pkl");
        let mut program = bytes[from..to].to_vec();
        let mut all = bytes.clone();
        for (at, byte) in &damage {
            let at_program = at.index(program.len());
            program[at_program] = *byte;
            let at_all = at.index(all.len());
            all[at_all] = *byte;
        }
        let mut archive = Archive::default().entry("archive/data.pkl", &program);
        for i in 0..28 {
            let (from, to) = files::entry(&bytes, &format!("data/{i}"));
            archive = archive.entry(&format!("archive/data/{i}"), &bytes[from..to]);
        }
        for bytes in [archive.bytes(), all] {
            let (folder, _) = with_bin(&bytes);
            if let Ok(adapters) = open(folder.path()) {
                prop_assert!(!adapters.is_empty());
            }
        }
    }
}

/// What the error says about a kohya file with this header and this many bytes behind it.
#[track_caller]
fn header_refused(header: &str, data: usize) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::write(&path, safetensors_file(header, &vec![0; data])).unwrap();
    refused(&path, &path)
}

#[test]
fn safetensors_headers_that_lie() {
    let damaged = "; the file is damaged or cut off: fetch it again";
    let entry = |name: &str, kind: &str, shape: &str, from: u64, to: u64| {
        format!("{name:?}: {{\"dtype\": {kind:?}, \"shape\": {shape}, \"data_offsets\": [{from}, {to}]}}")
    };
    let one = |kind: &str, shape: &str, from: u64, to: u64| {
        header_refused(&format!("{{{}}}", entry("x", kind, shape, from, to)), 16)
    };
    let at = |what: &str| format!(", layer x: {what}{damaged}");
    assert_eq!(one("F32", "[4]", 0, 32), at("shape [4] of F32 at bytes 0 to 32 of 16"));
    assert_eq!(one("F32", "[3]", 0, 16), at("shape [3] of F32 at bytes 0 to 16 of 16"));
    assert_eq!(one("F32", "[4]", 16, 0), at("shape [4] of F32 at bytes 16 to 0 of 16"));
    let huge = "[4294967296, 4294967296, 4294967296]";
    assert!(
        one("F32", huge, 0, 16).starts_with(", layer x: shape [4294967296, 4294967296, 4294967296] of F32")
    );
    assert_eq!(one("F32", "[2]", 8, 16), at("8 bytes before it belong to no tensor"));
    assert_eq!(one("F32", "[2]", 0, 8), format!(": 8 bytes at the end belong to no tensor{damaged}"));
    assert_eq!(
        one("I64", "[2]", 0, 16),
        ", layer x: a tensor of type \"I64\", and an adapter is of floats; supported: F64, F32, F16, BF16"
    );
    let two = |a: (u64, u64), b: (u64, u64)| {
        let shape = |(from, to): (u64, u64)| format!("[{}]", (to - from) / 4);
        let (first, second) =
            (entry("x", "F32", &shape(a), a.0, a.1), entry("y", "F32", &shape(b), b.0, b.1));
        header_refused(&format!("{{{first}, {second}}}"), 16)
    };
    assert_eq!(
        two((0, 12), (8, 16)),
        format!(", layer y: it begins at byte 8, where another tensor is{damaged}")
    );
    assert_eq!(two((0, 16), (0, 16)), format!(", layer y: its bytes are also those of \"x\"{damaged}"));
    let same = entry("x", "F32", "[2]", 0, 8);
    assert_eq!(
        header_refused(&format!("{{{same}, {same}}}"), 8),
        format!(": two tensors are called \"x\"{damaged}")
    );
    for name in ["../x", "a/b", "a\\\\b", "", "\\u0000"] {
        let header =
            format!("{{\"{name}\": {{\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}}}");
        let error = header_refused(&header, 4);
        assert!(error.contains("is no name for a tensor"), "{error}");
    }
    assert!(header_refused("[]", 0).contains("the header is no JSON that fits"));
    assert!(header_refused(&"[".repeat(100_000), 0).contains("the header is no JSON that fits"));
    assert!(header_refused(r#"{"x": 1}"#, 0).contains("the header is no JSON that fits"));
    assert!(header_refused("{}", 0).starts_with(": 0 tensors, none of them a lora_down"));

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.safetensors");
    let whole = std::fs::read(golden("foreign/kohya.safetensors")).unwrap();
    for length in (0..whole.len()).step_by(501) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = refused(&path, &path);
        assert!(error.contains("fetch it again"), "{length}: {error}");
    }
    let mut lying = whole.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&path, &lying).unwrap();
    assert!(refused(&path, &path).starts_with(": the header claims 18446744073709551615 bytes"));
}

#[test]
fn numbers_that_are_none_and_files_that_are_too_large() -> Result<()> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.safetensors");
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut tensors: HashMap<String, Tensor> =
            candle_core::safetensors::load(golden("foreign/kohya.safetensors"), &Device::Cpu)?;
        let name = "lora_te_model_layers_0_mlp_up_proj.lora_up.weight";
        let (shape, mut values) =
            (tensors[name].shape().clone(), tensors[name].flatten_all()?.to_vec1::<f32>()?);
        values[7] = bad;
        tensors.insert(name.to_string(), Tensor::from_vec(values, shape, &Device::Cpu)?);
        candle_core::safetensors::save(&tensors, &path)?;
        assert_eq!(
            refused(&path, &path),
            format!(
                ", layer {name}: number 7 of this tensor is {shown}; \
                 the adapter has diverged, or the file is damaged: take an earlier one"
            )
        );
    }
    // Nothing is written: the file has a hole.
    std::fs::File::create(&path).unwrap().set_len((8 << 30) + 1).unwrap();
    assert_eq!(
        refused(&path, &path),
        ": an adapter of 8.6 GB is refused: the limit is 8.6 GB; \
         if it is to be so large, set LORASCOPE_MAX_ADAPTER_BYTES to a larger number of bytes"
    );
    Ok(())
}
