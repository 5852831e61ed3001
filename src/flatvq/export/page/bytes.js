/** Return the bytes of a base64 text. */
export function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let place = 0; place < bytes.length; place++) bytes[place] = characters.charCodeAt(place);
  return bytes;
}

/** Return the unpacked bytes of gzip bytes. */
export async function gunzipped(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return the float32 value of each of the 65,536 bit patterns of float16. */
function halves() {
  const values = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction ? NaN : Infinity
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
    values[bits] = bits & 0x8000 ? -size : size;
  }
  return values;
}

/**
 * Divide the content of an arm into the encoder, the decoder, and the weights in float32.
 *
 * sizes: bytes of encoder and decoder. tensors: [type, number of values, place in the weights] of each tensor, in
 * the order in which they are stored after the graphs.
 */
export function unpacked(content, sizes, tensors) {
  const end = Math.max(0, ...tensors.map(([, count, place]) => place + count));
  const weights = new Float32Array(end);
  const table = halves();
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  let start = sizes[0] + sizes[1];
  for (const [type, count, place] of tensors) {
    const isHalf = type === "float16";
    for (let index = 0; index < count; index++) {
      weights[place + index] = isHalf
        ? table[view.getUint16(start + 2 * index, true)]
        : view.getFloat32(start + 4 * index, true);
    }
    start += count * (isHalf ? 2 : 4);
  }
  return {
    encoder: content.slice(0, sizes[0]),
    decoder: content.slice(sizes[0], sizes[0] + sizes[1]),
    weights: new Uint8Array(weights.buffer),
  };
}
