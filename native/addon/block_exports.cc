// Blocks of a cache as bytes, read and written in turn with the steps.
#include "exports.h"

namespace millrace::addon {
namespace {

struct BlockList {
  std::vector<int32_t> words;  // group, block
  size_t bytes = 0;
};

BlockList readBlockList(napi_env env, napi_value value, const backend::Cache& cache) {
  const Span<int32_t> words = readInt32s(env, value, "blocks");
  require(words.length % 2 == 0, "INTERNAL", "The native addon was given blocks that are not of two words.");
  BlockList list{std::vector<int32_t>(words.data, words.data + words.length)};
  for (size_t i = 0; i < list.words.size(); i += 2) {
    const int32_t group = list.words[i], block = list.words[i + 1];
    const bool exists = group >= 0 && static_cast<size_t>(group) < cache.groups().size() && block >= 0 && block < cache.groups()[static_cast<size_t>(group)].numBlocks;
    require(exists, "BACKEND_STEP_FAILED", "A block to read or write does not exist.");
    list.bytes += cache.blockBytes(group);
  }
  return list;
}

napi_value submitCopy(napi_env env, napi_value* arguments, bool isRead) {
  const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
  const std::shared_ptr<backend::Cache> cache = readHandle<backend::Cache>(env, arguments[1]);
  BlockList list = readBlockList(env, arguments[2], *cache);
  const Span<uint8_t> bytes = readBytes(env, arguments[3], "bytes");
  require(bytes.length == static_cast<int64_t>(list.bytes), "BACKEND_STEP_FAILED", "The bytes are not those of the blocks.");
  napi_value kept = nullptr;
  check(env, napi_create_array_with_length(env, 1, &kept));
  check(env, napi_set_element(env, kept, 0, arguments[3]));
  return worker->submit(env, kept, [cache, list = std::move(list), bytes, isRead](backend::Device& device) -> Worker::Result {
    if (isRead) device.readBlocks(*cache, list.words, const_cast<uint8_t*>(bytes.data));
    else device.writeBlocks(*cache, list.words, bytes.data);
    return [](napi_env env) {
      napi_value nothing = nullptr;
      check(env, napi_get_undefined(env, &nothing));
      return nothing;
    };
  });
}

}  // namespace

// (cache) -> bytes of a block of each group
napi_value blockBytes(napi_env env, napi_callback_info info) {
  return guarded(env, info, 1, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<backend::Cache> cache = readHandle<backend::Cache>(env, arguments[0]);
    napi_value list = nullptr;
    check(env, napi_create_array(env, &list));
    for (uint32_t group = 0; group < cache->groups().size(); group++) {
      check(env, napi_set_element(env, list, group, makeNumber(env, static_cast<double>(cache->blockBytes(static_cast<int32_t>(group))))));
    }
    return list;
  });
}

// (device, cache, blocks [n, 2], target) -> promise
napi_value readBlocks(napi_env env, napi_callback_info info) {
  return guarded(env, info, 4, [](napi_env env, napi_value* arguments) { return submitCopy(env, arguments, true); });
}

// (device, cache, blocks [n, 2], bytes) -> promise
napi_value writeBlocks(napi_env env, napi_callback_info info) {
  return guarded(env, info, 4, [](napi_env env, napi_value* arguments) { return submitCopy(env, arguments, false); });
}

}  // namespace millrace::addon
