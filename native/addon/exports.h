// The functions of the addon, by file, and the types that have handles.
#pragma once

#include "../common/mapped_file.h"
#include "backend.h"
#include "handle.h"
#include "worker.h"

namespace millrace::addon {

template <> struct HandleType<Worker> {
  static constexpr napi_type_tag tag = {0x6d696c6c72616365, 1};
  static constexpr const char* name = "backend";
};
template <> struct HandleType<MappedFile> {
  static constexpr napi_type_tag tag = {0x6d696c6c72616365, 2};
  static constexpr const char* name = "mapped file";
};
template <> struct HandleType<backend::Weight> {
  static constexpr napi_type_tag tag = {0x6d696c6c72616365, 3};
  static constexpr const char* name = "weight";
};
template <> struct HandleType<backend::Program> {
  static constexpr napi_type_tag tag = {0x6d696c6c72616365, 4};
  static constexpr const char* name = "program";
};
template <> struct HandleType<backend::Cache> {
  static constexpr napi_type_tag tag = {0x6d696c6c72616365, 5};
  static constexpr const char* name = "cache";
};

// feature_exports.cc, limits_exports.cc: of the CPU addon alone
napi_value cpuFeatures(napi_env, napi_callback_info);
napi_value measureLimits(napi_env, napi_callback_info);
napi_value pinThreads(napi_env, napi_callback_info);
// gpu_exports.cc: of the GPU addon alone
napi_value recordSteps(napi_env, napi_callback_info);
napi_value replayedSteps(napi_env, napi_callback_info);
// device_exports.cc
napi_value createDevice(napi_env, napi_callback_info);
napi_value readCounters(napi_env, napi_callback_info);
napi_value resetCounters(napi_env, napi_callback_info);
napi_value plantOrderFault(napi_env, napi_callback_info);
napi_value closeHandle(napi_env, napi_callback_info);
// model_exports.cc
napi_value mapFile(napi_env, napi_callback_info);
napi_value packWeight(napi_env, napi_callback_info);
napi_value createProgram(napi_env, napi_callback_info);
napi_value createCache(napi_env, napi_callback_info);
napi_value takeProfile(napi_env, napi_callback_info);
// block_exports.cc
napi_value blockBytes(napi_env, napi_callback_info);
napi_value readBlocks(napi_env, napi_callback_info);
napi_value writeBlocks(napi_env, napi_callback_info);
// describe_exports.cc
napi_value describePlan(napi_env, napi_callback_info);
// step_exports.cc
napi_value forward(napi_env, napi_callback_info);
napi_value sample(napi_env, napi_callback_info);

}  // namespace millrace::addon
