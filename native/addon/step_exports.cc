// The two crossings of a step: forward (with the sampling, unless the host wants a word in between) and sample.
#include <algorithm>
#include <chrono>
#include <functional>

#include "exports.h"

namespace millrace::addon {
namespace {

// Reads arrays and notes them in a JavaScript array, which keeps their memory where it is until the step is done.
class ArrayReader {
 public:
  ArrayReader(napi_env env, napi_value object, napi_value kept) : env_(env), object_(object), kept_(kept) {}

  int32_t count(const char* name) const {
    const int32_t value = readInt(env_, property(env_, object_, name), name);
    if (value < 0) throw Error("INTERNAL", std::string("The native addon was given a negative ") + name + ".");
    return value;
  }
  Span<int32_t> int32s(const char* name) const { return readInt32s(env_, keep(property(env_, object_, name)), name); }
  Span<uint32_t> uint32s(const char* name) const { return readUint32s(env_, keep(property(env_, object_, name)), name); }
  Span<float> floats(const char* name) const { return readFloats(env_, keep(property(env_, object_, name)), name); }

  napi_value keep(napi_value value) const {
    uint32_t length = 0;
    check(env_, napi_get_array_length(env_, kept_, &length));
    check(env_, napi_set_element(env_, kept_, length, value));
    return value;
  }

 private:
  napi_env env_;
  napi_value object_, kept_;
};

ForwardBatch readBatch(napi_env env, napi_value value, napi_value kept) {
  const ArrayReader reader(env, value, kept);
  ForwardBatch batch;
  batch.numTokens = reader.count("numTokens");
  batch.numRows = reader.count("numRows");
  batch.numLogitRows = reader.count("numLogitRows");
  batch.maxBlocks = reader.count("maxBlocks");
  batch.numCopies = reader.count("numCopies");
  batch.tokenIds = reader.int32s("tokenIds");
  batch.positions = reader.int32s("positions");
  batch.rowStart = reader.int32s("rowStart");
  batch.cacheIndex = reader.int32s("cacheIndex");
  batch.visibleEnd = reader.int32s("visibleEnd");
  batch.blockTables = reader.int32s("blockTables");
  batch.slotMapping = reader.int32s("slotMapping");
  batch.logitTokens = reader.int32s("logitTokens");
  batch.copies = reader.int32s("copies");
  napi_value keptKeys = property(env, value, "kept");
  if (!isNothing(env, keptKeys)) batch.kept = reader.int32s("kept");
  napi_value ancestors = property(env, value, "ancestors");
  if (!isNothing(env, ancestors)) {
    const ArrayReader drafts(env, ancestors, kept);
    batch.ancestorStart = drafts.int32s("start");
    batch.ancestorSlots = drafts.int32s("slots");
    require(batch.ancestorStart.length > batch.numTokens, "BACKEND_STEP_FAILED", "The step is not legal: ancestors.start is too short.");
  }
  return batch;
}

// { program, cache, batch, embeddings, sourceEntry, sourceOutput }
StepEntry readEntry(napi_env env, napi_value value, napi_value kept) {
  StepEntry entry;
  entry.program = readHandle<backend::Program>(env, property(env, value, "program"));
  napi_value cache = property(env, value, "cache");
  if (!isNothing(env, cache)) entry.cache = readHandle<backend::Cache>(env, cache);
  entry.batch = readBatch(env, property(env, value, "batch"), kept);
  napi_value embeddings = property(env, value, "embeddings");
  if (!isNothing(env, embeddings)) entry.hostEmbeddings = ArrayReader(env, value, kept).floats("embeddings");
  entry.sourceEntry = readInt(env, property(env, value, "sourceEntry"), "sourceEntry");
  entry.sourceOutput = readInt(env, property(env, value, "sourceOutput"), "sourceOutput");
  return entry;
}

struct Sampling {
  SamplingColumns columns;
  std::shared_ptr<backend::Program> program;  // whose logits, or null:
  int32_t output = 0;
  Span<float> logits;
  int32_t vocabSize = 0;
  bool isMasked = false;
  Span<uint32_t> masks;
};

template <class T>
const T* atLeast(const Span<T>& span, int64_t length, const char* what) {
  if (span.length < length) throw Error("BACKEND_STEP_FAILED", std::string("The sampling batch has too short a ") + what + ".");
  return span.data;
}

SamplingColumns readColumns(napi_env env, napi_value value, napi_value kept) {
  const ArrayReader reader(env, value, kept);
  SamplingColumns c;
  const int32_t n = c.numRows = reader.count("numRows");
  c.temperature = atLeast(reader.floats("temperature"), n, "temperature");
  c.topP = atLeast(reader.floats("topP"), n, "topP");
  c.topK = atLeast(reader.int32s("topK"), n, "topK");
  c.minP = atLeast(reader.floats("minP"), n, "minP");
  c.repetitionPenalty = atLeast(reader.floats("repetitionPenalty"), n, "repetitionPenalty");
  c.presencePenalty = atLeast(reader.floats("presencePenalty"), n, "presencePenalty");
  c.frequencyPenalty = atLeast(reader.floats("frequencyPenalty"), n, "frequencyPenalty");
  c.seed = atLeast(reader.uint32s("seed"), int64_t{2} * n, "seed");
  c.choice = atLeast(reader.uint32s("choice"), n, "choice");
  c.position = atLeast(reader.uint32s("position"), n, "position");
  c.numLogprobs = atLeast(reader.int32s("numLogprobs"), n, "numLogprobs");
  const Span<int32_t> history = reader.int32s("historyIds"), biasIds = reader.int32s("biasIds");
  const Span<float> biasValues = reader.floats("biasValues");
  c.historyIds = history.data;
  c.historyLength = history.length;
  c.historyStart = atLeast(reader.int32s("historyStart"), int64_t{n} + 1, "historyStart");
  c.historyPrompt = atLeast(reader.int32s("historyPrompt"), n, "historyPrompt");
  c.biasIds = biasIds.data;
  c.biasValues = biasValues.data;
  c.biasLength = std::min(biasIds.length, biasValues.length);
  c.biasStart = atLeast(reader.int32s("biasStart"), int64_t{n} + 1, "biasStart");
  const Span<float> shaping = reader.floats("shaping");
  if (shaping.length > 0) c.shaping = atLeast(shaping, int64_t{n} * kShapingWidth, "shaping");
  const Span<int32_t> wantedIds = reader.int32s("wantedIds");
  c.wantedIds = wantedIds.data;
  c.wantedLength = wantedIds.length;
  c.wantedStart = atLeast(reader.int32s("wantedStart"), int64_t{n} + 1, "wantedStart");
  return c;
}

// { program, output } or { logits, vocabSize }, with batch and masks.
Sampling readSampling(napi_env env, napi_value value, napi_value kept) {
  const ArrayReader reader(env, value, kept);
  Sampling sampling;
  sampling.columns = readColumns(env, property(env, value, "batch"), kept);
  const int64_t numRows = sampling.columns.numRows;
  napi_value program = property(env, value, "program");
  if (isNothing(env, program)) {
    sampling.logits = reader.floats("logits");
    sampling.vocabSize = reader.count("vocabSize");
    require(sampling.vocabSize > 0, "BACKEND_STEP_FAILED", "There is no vocabulary to sample from.");
    atLeast(sampling.logits, numRows * sampling.vocabSize, "logits array");
  } else {
    sampling.program = readHandle<backend::Program>(env, program);
    sampling.output = reader.count("output");
  }
  napi_value masks = property(env, value, "masks");
  sampling.isMasked = !isNothing(env, masks);
  if (sampling.isMasked) sampling.masks = reader.uint32s("masks");
  return sampling;
}

struct Sampled {
  SampledRows rows;
  double sampleMs = 0;
};

// What a device gives is there, or has been launched and is to be waited for.
template <class T>
std::function<T()> later(std::function<T()> pending) {
  return pending;
}
template <class T>
std::function<T()> later(T value) {
  return [kept = std::make_shared<T>(std::move(value))] { return std::move(*kept); };
}

std::function<Sampled()> launchSampling(backend::Device& device, const Sampling& sampling) {
  const auto start = std::chrono::steady_clock::now();
  const Span<uint32_t>* masks = sampling.isMasked ? &sampling.masks : nullptr;
  const std::function<SampledRows()> rows = sampling.program != nullptr
                                                ? later(device.sample(*sampling.program, sampling.output, sampling.columns, masks))
                                                : later(device.sample(sampling.logits.data, sampling.vocabSize, sampling.columns, masks));
  const double launchMs = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return [rows, launchMs] {
    Sampled sampled{rows()};
    sampled.sampleMs = sampled.rows.deviceMs < 0 ? launchMs : sampled.rows.deviceMs;
    return sampled;
  };
}

template <class T>
void setArray(napi_env env, napi_value object, const char* name, napi_typedarray_type type, const std::vector<T>& values) {
  setProperty(env, object, name, makeTypedArray(env, type, values.data(), values.size(), sizeof(T)));
}

void setSampled(napi_env env, napi_value result, const Sampled& sampled) {
  setArray(env, result, "tokenIds", napi_int32_array, sampled.rows.tokenIds);
  setArray(env, result, "logprobs", napi_float32_array, sampled.rows.logprobs);
  setArray(env, result, "topTokenIds", napi_int32_array, sampled.rows.topTokenIds);
  setArray(env, result, "topLogprobs", napi_float32_array, sampled.rows.topLogprobs);
  setArray(env, result, "corrupted", napi_uint8_array, sampled.rows.corrupted);
  setArray(env, result, "mirostatMu", napi_float32_array, sampled.rows.mirostatMu);
  setProperty(env, result, "maxTopLogprobs", makeNumber(env, sampled.rows.maxTopLogprobs));
  setProperty(env, result, "sampleMs", makeNumber(env, sampled.sampleMs));
}

napi_value newArray(napi_env env) {
  napi_value array = nullptr;
  check(env, napi_create_array(env, &array));
  return array;
}

}  // namespace

// (device, { entries, readOutputs, sampling or null }) -> promise of { outputs: Float32Array[], forwardMs } and, with sampling, its columns
napi_value forward(napi_env env, napi_callback_info info) {
  return guarded(env, info, 2, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    napi_value kept = newArray(env);
    std::vector<StepEntry> entries;
    napi_value list = property(env, arguments[1], "entries");
    const uint32_t numEntries = arrayLength(env, list, "entries");
    for (uint32_t i = 0; i < numEntries; i++) entries.push_back(readEntry(env, element(env, list, i), kept));
    const Span<int32_t> read = readInt32s(env, property(env, arguments[1], "readOutputs"), "readOutputs");
    std::vector<int32_t> readOutputs(read.data, read.data + read.length);
    napi_value given = property(env, arguments[1], "sampling");
    const bool samples = !isNothing(env, given);
    Sampling sampling;
    if (samples) sampling = readSampling(env, given, kept);
    if (samples) require(!entries.empty() && sampling.columns.numRows <= entries.back().batch.numLogitRows, "BACKEND_STEP_FAILED", "There are more rows to sample than logit rows.");
    return worker->submitLaunch(env, kept, [entries = std::move(entries), readOutputs = std::move(readOutputs), sampling, samples](backend::Device& device) -> Worker::Wait {
      const std::function<ForwardResult()> forwarded = later(device.forward(entries, readOutputs));
      const std::function<Sampled()> sampledLater = samples ? launchSampling(device, sampling) : nullptr;
      return [entries, sampling, forwarded, sampledLater]() -> Worker::Result {
        const auto done = std::make_shared<ForwardResult>(forwarded());
        const auto sampled = sampledLater == nullptr ? nullptr : std::make_shared<Sampled>(sampledLater());
        return [done, sampled](napi_env env) {
          napi_value result = makeObject(env), outputs = newArray(env);
          for (uint32_t i = 0; i < done->outputs.size(); i++) check(env, napi_set_element(env, outputs, i, makeFloats(env, std::move(done->outputs[i]))));
          setProperty(env, result, "outputs", outputs);
          setProperty(env, result, "forwardMs", makeNumber(env, done->forwardMs));
          if (sampled != nullptr) setSampled(env, result, *sampled);
          return result;
        };
      };
    });
  });
}

// (device, { program, output, batch, masks } or { logits, vocabSize, batch, masks }) -> promise of the sampled columns
napi_value sample(napi_env env, napi_callback_info info) {
  return guarded(env, info, 2, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    napi_value kept = newArray(env);
    const Sampling sampling = readSampling(env, arguments[1], kept);
    return worker->submitLaunch(env, kept, [sampling](backend::Device& device) -> Worker::Wait {
      const std::function<Sampled()> launched = launchSampling(device, sampling);
      return [sampling, launched]() -> Worker::Result {
        const auto sampled = std::make_shared<Sampled>(launched());
        return [sampled](napi_env env) {
          napi_value result = makeObject(env);
          setSampled(env, result, *sampled);
          return result;
        };
      };
    });
  });
}

}  // namespace millrace::addon
