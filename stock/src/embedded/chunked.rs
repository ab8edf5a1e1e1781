//! An append-only list that grows without copying what it holds: a million tickets never move at once under a
//! sale's lock, and growth wastes one chunk at most.

const CHUNK: usize = 1024;

/// See the module.
pub(super) struct Chunked<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Chunked<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Answers the position of what was pushed.
    pub(super) fn push(&mut self, value: T) -> u32 {
        if self.len.is_multiple_of(CHUNK) {
            // The first chunk grows as needed: most sales of an installation are small.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(value);
        }
        self.len += 1;
        (self.len - 1) as u32
    }

    pub(super) fn get(&self, position: u32) -> Option<&T> {
        self.chunks.get(position as usize / CHUNK)?.get(position as usize % CHUNK)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl<T> std::ops::Index<u32> for Chunked<T> {
    type Output = T;
    fn index(&self, position: u32) -> &T {
        &self.chunks[position as usize / CHUNK][position as usize % CHUNK]
    }
}

impl<T> std::ops::IndexMut<u32> for Chunked<T> {
    fn index_mut(&mut self, position: u32) -> &mut T {
        &mut self.chunks[position as usize / CHUNK][position as usize % CHUNK]
    }
}
