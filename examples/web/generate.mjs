// Greedy continuation of token ids with a bundle, in WebAssembly: node generate.mjs BUNDLE GRAPH COUNT ID [ID ...]
//
// GRAPH is portable, fp32 or int8; prompt and text together must fit the model's context. Prints the new ids as JSON.
// In a page, read the files with fetch() and the tokenizer with @huggingface/tokenizers; the rest stays the same.
// The graphs' inputs are described in src/gptmodel/export/portable_graph.py (portable) and fast_graph.py.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-web";

const [folder, graph, count, ...prompt] = process.argv.slice(2);
const info = JSON.parse(await readFile(join(folder, "bundle.json"), "utf8"));
const { network } = info;
const file = { portable: "model.onnx", fp32: "fp32.onnx", int8: "int8.onnx" }[graph];
const session = await ort.InferenceSession.create(await readFile(join(folder, file)));

const int64 = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
const int32 = (values, shape) => new ort.Tensor("int32", Int32Array.from(values), shape);

function emptyPast() {
  if (network.network === "bigram") return {};
  const places = graph === "portable" ? 0 : info.context; // a growing cache, or one of fixed size
  const shape = [1, network.n_head, places, network.n_embd / network.n_head];
  const [type, Numbers] = graph === "int8" ? ["int8", Int8Array] : ["float32", Float32Array];
  const past = {};
  for (let layer = 0; layer < network.n_layer; layer++)
    for (const kind of ["key", "value"])
      past[`past_${kind}.${layer}`] = new ort.Tensor(type, new Numbers(shape[1] * shape[2] * shape[3]), shape);
  return past;
}

function feeds(ids, held, past) {
  const inputs = { input_ids: int64(ids, [1, ids.length]), ...past };
  if (network.network === "bigram") return inputs;
  if (graph === "portable") return { ...inputs, pad: int64([0], [1]) };
  const total = held + ids.length;
  Object.assign(inputs, { last_place: int32([total - 1], [1]), total_length: int32([total], []) });
  inputs.rows = int64([ids.length - 1], [1]); // logits of the last place only
  if (network.positions === "learned")
    inputs.position_ids = int64(
      ids.map((_, i) => held + i),
      [1, ids.length],
    );
  return inputs;
}

const written = [];
let [ids, held, past] = [prompt.map(Number), 0, emptyPast()];
for (let step = 0; step < Number(count); step++) {
  const outputs = await session.run(feeds(ids, held, past));
  const scores = outputs.logits.data.slice(-info.vocab_size);
  held += ids.length;
  ids = [scores.indexOf(Math.max(...scores))];
  written.push(ids[0]);
  for (const name of Object.keys(past)) past[name] = outputs[name.replace("past", "present")];
}
console.log(JSON.stringify(written));
