// A ZIP archive of files, stored as they are: PNG files do not get smaller.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

function crc(data) {
  let c = 0xffffffff;
  for (const byte of data) c = TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

function record(size, fields) {
  const view = new DataView(new ArrayBuffer(size));
  for (const [at, width, value] of fields) width === 2 ? view.setUint16(at, value, true) : view.setUint32(at, value, true);
  return new Uint8Array(view.buffer);
}

// files: [name in ASCII, Blob] pairs with different names.
export async function zip(files) {
  const parts = [];
  const index = [];
  let at = 0;
  for (const [name, blob] of files) {
    const data = new Uint8Array(await blob.arrayBuffer());
    const title = new TextEncoder().encode(name);
    // version, date (1980-01-01), checksum, sizes, length of the name: the same in both places
    const shared = (k) => [[k, 2, 20], [k + 8, 2, 33], [k + 10, 4, crc(data)], [k + 14, 4, data.length], [k + 18, 4, data.length],
      [k + 22, 2, title.length]];
    const head = record(30, [[0, 4, 0x04034b50], ...shared(4)]);
    index.push(record(46, [[0, 4, 0x02014b50], [4, 2, 20], ...shared(6), [42, 4, at]]), title);
    parts.push(head, title, data);
    at += head.length + title.length + data.length;
  }
  const length = index.reduce((sum, it) => sum + it.length, 0);
  const end = record(22, [[0, 4, 0x06054b50], [8, 2, files.length], [10, 2, files.length], [12, 4, length], [16, 4, at]]);
  return new Blob([...parts, ...index, end], { type: "application/zip" });
}
