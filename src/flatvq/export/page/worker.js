// The worker: it owns onnxruntime and the sessions of the arms, so that the page stays responsive.
import { unpacked } from "./bytes.js";

let ort;
const arms = [];

const answers = {
  /** Start onnxruntime from its two files. */
  async start({ script, program }) {
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    ort = await import(url);
    URL.revokeObjectURL(url);
    ort.env.wasm.numThreads = 1; // threads need a server that sends special headers
    ort.env.wasm.wasmBinary = program;
    ort.env.logLevel = "error";
  },

  /** Create the sessions of an arm. */
  async load({ arm, content, sizes, tensors, file }) {
    const { encoder, decoder, weights } = unpacked(content, sizes, tensors);
    const options = { executionProviders: ["wasm"], externalData: [{ path: file, data: weights }] };
    arms[arm] = {
      encoder: await ort.InferenceSession.create(encoder, options),
      decoder: await ort.InferenceSession.create(decoder, options),
    };
  },

  /** Encode an image, one plane for each channel, to the indices of each level. */
  async encode({ arm, planes, channels, height, width }) {
    const images = new ort.Tensor("float32", planes, [1, channels, height, width]);
    const { encoder } = arms[arm];
    const outputs = await encoder.run({ images });
    return encoder.outputNames.map((name) => ({
      indices: Int32Array.from(outputs[name].data, Number),
      shape: outputs[name].dims.slice(1),
    }));
  },

  /** Decode indices, with the kept levels alone, to an image and the colours of the codes of each level. */
  async decode({ arm, levels, kept }) {
    const feed = { kept: new ort.Tensor("float32", Float32Array.from(kept, Number), [kept.length]) };
    levels.forEach(({ indices, shape }, number) => {
      feed[`level_${number}`] = new ort.Tensor("int64", BigInt64Array.from(indices, BigInt), [1, ...shape]);
    });
    const outputs = await arms[arm].decoder.run(feed);
    return {
      planes: outputs.images.data,
      colours: levels.map((_, number) => ({
        planes: outputs[`colours_${number}`].data,
        shape: outputs[`colours_${number}`].dims.slice(2),
      })),
    };
  },
};

// onnxruntime runs one session at a time, so requests are answered in order.
let last = Promise.resolve();
self.onmessage = ({ data: { id, request, ...values } }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id, result: await answers[request](values) });
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};
