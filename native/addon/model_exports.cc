#include "../common/contract.h"
#include "exports.h"

namespace millrace::addon {
namespace {

constexpr int32_t kLastFormat = static_cast<int32_t>(WeightFormat::count) - 1;

template <class T>
T readEnum(napi_env env, napi_value value, int32_t last, const char* what) {
  const int32_t index = readInt(env, value, what);
  if (index < 0 || index > last) throw Error("INTERNAL", std::string("The native addon was given an unknown ") + what + ".");
  return static_cast<T>(index);
}

// { file, offset } or { bytes }, with sizeBytes, format, rows, ropeHeadDim, shift.
WeightPart readPart(napi_env env, napi_value value) {
  WeightPart part;
  part.format = readEnum<WeightFormat>(env, property(env, value, "format"), kLastFormat, "format");
  part.rows = readInt(env, property(env, value, "rows"), "rows");
  part.ropeHeadDim = readInt(env, property(env, value, "ropeHeadDim"), "ropeHeadDim");
  part.shift = static_cast<float>(readNumber(env, property(env, value, "shift"), "shift"));
  part.sizeBytes = static_cast<size_t>(readSize(env, property(env, value, "sizeBytes"), "sizeBytes"));
  napi_value file = property(env, value, "file");
  if (isNothing(env, file)) {
    const Span<uint8_t> bytes = readBytes(env, property(env, value, "bytes"), "bytes");
    require(static_cast<size_t>(bytes.length) == part.sizeBytes, "WEIGHTS_FILE_INVALID", "A tensor does not have the bytes that it says.");
    part.bytes = bytes.data;
    return part;
  }
  part.file = readHandle<MappedFile>(env, file);
  part.offset = static_cast<size_t>(readSize(env, property(env, value, "offset"), "offset"));
  require(part.offset <= part.file->size() && part.sizeBytes <= part.file->size() - part.offset, "WEIGHTS_FILE_INVALID", "A tensor lies beyond the end of its file.");
  part.bytes = part.file->data() + part.offset;
  return part;
}

}  // namespace

// (path) -> handle
napi_value mapFile(napi_env env, napi_callback_info info) {
  return guarded(env, info, 1, [](napi_env env, napi_value* arguments) {
    return makeHandle(env, std::make_shared<MappedFile>(readString(env, arguments[0], "path")));
  });
}

// (device, format, rank, rows, columns, matrices, mapped, parts) -> promise of { weight, sizeBytes }
napi_value packWeight(napi_env env, napi_callback_info info) {
  return guarded(env, info, 8, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    PlanWeight shape;
    shape.format = readEnum<int32_t>(env, arguments[1], kLastFormat, "format");
    shape.rank = readInt(env, arguments[2], "rank");
    shape.rows = readInt(env, arguments[3], "rows");
    shape.columns = readInt(env, arguments[4], "columns");
    shape.count = readInt(env, arguments[5], "matrices");
    const bool vector = shape.rank == 1 && shape.columns == 1 && shape.format == 0 && shape.count == 1;
    const bool counted = shape.rank == 2 ? shape.count == 1 : shape.rank == 3 && shape.count > 0 && shape.count <= (1 << 16);
    const bool matrix = counted && shape.columns > 0 && shape.columns <= (1 << 28) && shape.columns % blockSize(static_cast<WeightFormat>(shape.format)).elements == 0;
    require(shape.rows > 0 && (vector || matrix), "INTERNAL", "The native addon was given a weight of an impossible shape.");
    std::vector<WeightPart> parts;
    const uint32_t numParts = arrayLength(env, arguments[7], "parts");
    for (uint32_t i = 0; i < numParts; i++) parts.push_back(readPart(env, element(env, arguments[7], i)));
    const bool mapped = readInt(env, arguments[6], "mapped") != 0;
    return worker->submit(env, arguments[7], [shape, mapped, parts = std::move(parts)](backend::Device& device) -> Worker::Result {
      const std::shared_ptr<backend::Weight> weight = device.makeWeight(shape, parts, mapped);
      return [weight](napi_env env) {
        napi_value result = makeObject(env);
        setProperty(env, result, "sizeBytes", makeNumber(env, static_cast<double>(weight->sizeBytes())));
        setProperty(env, result, "weight", makeHandle(env, weight));
        return result;
      };
    });
  });
}

// (device, encodedPlan, weights, maxTokens, maxLogitRows) -> { program, arenaBytes, kernels }
napi_value createProgram(napi_env env, napi_callback_info info) {
  return guarded(env, info, 5, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    const Span<int32_t> words = readInt32s(env, arguments[1], "plan");
    std::vector<std::shared_ptr<backend::Weight>> weights;
    const uint32_t numWeights = arrayLength(env, arguments[2], "weights");
    for (uint32_t i = 0; i < numWeights; i++) weights.push_back(readHandle<backend::Weight>(env, element(env, arguments[2], i)));
    const int32_t maxTokens = readInt(env, arguments[3], "maxTokens"), maxLogitRows = readInt(env, arguments[4], "maxLogitRows");
    const std::shared_ptr<backend::Program> program = worker->device().makeProgram(decodePlan(words.data, static_cast<size_t>(words.length)), std::move(weights), maxTokens, maxLogitRows);
    napi_value result = makeObject(env);
    setProperty(env, result, "arenaBytes", makeNumber(env, static_cast<double>(program->arenaBytes())));
    setProperty(env, result, "kernels", makeStrings(env, program->kernelNames()));
    setProperty(env, result, "program", makeHandle(env, program));
    return result;
  });
}

// (program) -> [numNodes, 3]: calls, nanoseconds, nanoseconds waited, since it was last asked for; the first call starts counting
napi_value takeProfile(napi_env env, napi_callback_info info) {
  return guarded(env, info, 1, [](napi_env env, napi_value* arguments) {
    Profile& profile = readHandle<backend::Program>(env, arguments[0])->profile();
    std::vector<double> times(profile.numNodes() * 3);
    profile.take(times.data());
    return makeTypedArray(env, napi_float64_array, times.data(), times.size(), sizeof(double));
  });
}

// (device, groups [numGroups, 5]: numLayers, numKvHeads, headDim, numBlocks, isLatent; blockSize; dtype) -> { cache, sizeBytes }
napi_value createCache(napi_env env, napi_callback_info info) {
  return guarded(env, info, 4, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    const Span<int32_t> words = readInt32s(env, arguments[1], "groups");
    require(words.length % 5 == 0, "INTERNAL", "The native addon was given cache groups that are not of five words.");
    std::vector<CacheGroupSpec> groups;
    for (int64_t i = 0; i < words.length; i += 5) groups.push_back({words.data[i], words.data[i + 1], words.data[i + 2], words.data[i + 3], words.data[i + 4] == 1});
    const int32_t blockSize = readInt(env, arguments[2], "blockSize");
    const auto dtype = readEnum<KvDtype>(env, arguments[3], 5, "dtype");
    const std::shared_ptr<backend::Cache> cache = worker->device().makeCache(groups, blockSize, dtype);
    napi_value result = makeObject(env);
    setProperty(env, result, "sizeBytes", makeNumber(env, static_cast<double>(cache->sizeBytes())));
    setProperty(env, result, "cache", makeHandle(env, cache));
    return result;
  });
}

}  // namespace millrace::addon
