//! Files written by hand: zip archives, pickles, safetensors.

/// An archive of stored entries.
#[derive(Default)]
pub struct Archive {
    entries: Vec<(String, Vec<u8>)>,
    /// What the entries say of their compression.
    pub method: u16,
}

impl Archive {
    pub fn entry(mut self, name: &str, bytes: &[u8]) -> Self {
        self.entries.push((name.to_string(), bytes.to_vec()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for (name, bytes) in &self.entries {
            let mut crc = flate2::Crc::new();
            crc.update(bytes);
            let mut common = Vec::new();
            for word in [0u16, self.method, 0, 0] {
                common.extend(word.to_le_bytes());
            }
            for number in [crc.sum(), bytes.len() as u32, bytes.len() as u32] {
                common.extend(number.to_le_bytes());
            }
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0; 2]);
            let offset = file.len() as u32;
            file.extend(b"PK\x03\x04\x14\x00");
            file.extend(&common);
            file.extend(name.as_bytes());
            file.extend(bytes);
            directory.extend(b"PK\x01\x02\x14\x00\x14\x00");
            directory.extend(&common);
            directory.extend([0; 10]);
            directory.extend(offset.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let (begin, count) = (file.len() as u32, self.entries.len() as u16);
        file.extend(&directory);
        file.extend(b"PK\x05\x06\x00\x00\x00\x00");
        file.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
        file.extend((directory.len() as u32).to_le_bytes());
        file.extend(begin.to_le_bytes());
        file.extend([0; 2]);
        file
    }
}

/// Where the bytes of an entry of torch's archive are: its name ends in this.
pub fn entry(file: &[u8], name: &str) -> (usize, usize) {
    let full = format!("/{name}");
    let word = |at: usize, count: usize| {
        file[at..at + count].iter().rev().fold(0usize, |all, byte| all << 8 | usize::from(*byte))
    };
    let mut at = word(file.len() - 22 + 16, 4);
    while file[at..].starts_with(b"PK\x01\x02") {
        let (length, extra, comment) = (word(at + 28, 2), word(at + 30, 2), word(at + 32, 2));
        if file[at + 46..at + 46 + length].ends_with(full.as_bytes()) {
            let local = word(at + 42, 4);
            let from = local + 30 + word(local + 26, 2) + word(local + 28, 2);
            return (from, from + word(at + 24, 4));
        }
        at += 46 + length + extra + comment;
    }
    panic!("no {name} in the archive")
}

fn string(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn number(n: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &n.to_le_bytes()].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

/// A tensor of a pickle: name, storage, offset, sizes, strides.
pub type View<'a> = (&'a str, &'a str, i64, &'a [i64], &'a [i64]);

/// A dict of f32 tensors as torch writes it.
pub fn pickle(tensors: &[View]) -> Vec<u8> {
    let mut program = b"\x80\x02}(".to_vec();
    for (name, key, offset, sizes, strides) in tensors {
        let numbers = |all: &[i64]| tuple(&all.iter().map(|n| number(*n)).collect::<Vec<_>>());
        let storage = tuple(&[
            string("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            string(key),
            string("cpu"),
            number(16),
        ]);
        program.extend(string(name));
        program.extend(b"ctorch._utils\n_rebuild_tensor_v2\n");
        program.extend(tuple(&[
            [storage, b"Q".to_vec()].concat(),
            number(*offset),
            numbers(sizes),
            numbers(strides),
            b"\x89".to_vec(),
            b"ccollections\nOrderedDict\n)R".to_vec(),
        ]));
        program.extend(b"R");
    }
    program.extend(b"u.");
    program
}

pub fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}
