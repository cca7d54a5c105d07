// A zip of stored files: names in UTF-8, no compression, since pictures and clips are compressed already.

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const UTF8_NAMES = 0x0800;
const FIRST_DAY = 0x0021; // 1 January 1980: samples.json has the times
const MOST_BYTES = 2 ** 32 - 2 ** 20; // of a zip without zip64
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

export const fitsZip = (nBytes) => nBytes < MOST_BYTES;

// The parts of a zip, for a Blob. `files`: [{ name, crc, blob }]. A blob stays where the browser has it.
export function zipParts(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, crc, blob } of files) {
    const encoded = new TextEncoder().encode(name);
    const sizes = [crc, blob.size, blob.size];
    const shared = [[20, 2], [UTF8_NAMES, 2], [0, 2], [0, 2], [FIRST_DAY, 2], ...sizes.map((size) => [size, 4])];
    const local = fields([[LOCAL, 4], ...shared, [encoded.length, 2], [0, 2]]);
    const place = [[0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]];
    directory.push(fields([[CENTRAL, 4], [20, 2], ...shared, [encoded.length, 2], [0, 2], ...place]), encoded);
    parts.push(local, encoded, blob);
    offset += local.length + encoded.length + blob.size;
  }
  const directoryBytes = directory.reduce((sum, part) => sum + part.length, 0);
  const counts = [[files.length, 2], [files.length, 2], [directoryBytes, 4], [offset, 4]];
  return [...parts, ...directory, fields([[END, 4], [0, 2], [0, 2], ...counts, [0, 2]])];
}

// Whole numbers in little-endian order: [[value, bytes], …].
function fields(values) {
  const bytes = values.flatMap(([value, count]) => Array.from({ length: count }, (_, at) => (value >>> (8 * at)) & 0xff));
  return Uint8Array.from(bytes);
}
