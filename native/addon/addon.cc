// The one entry of the addon. Context-aware: everything lives in handles, nothing in globals, so workers may load it too.
#include "exports.h"

using namespace millrace::addon;

NAPI_MODULE_INIT() {
  const napi_property_descriptor properties[] = {
#define MILLRACE_EXPORT(name) {#name, nullptr, name, nullptr, nullptr, nullptr, napi_enumerable, nullptr}
#ifndef MILLRACE_CUDA
      MILLRACE_EXPORT(cpuFeatures), MILLRACE_EXPORT(measureLimits), MILLRACE_EXPORT(pinThreads),
#else
      MILLRACE_EXPORT(recordSteps), MILLRACE_EXPORT(replayedSteps),
#endif
      MILLRACE_EXPORT(createDevice), MILLRACE_EXPORT(readCounters), MILLRACE_EXPORT(resetCounters),
      MILLRACE_EXPORT(plantOrderFault), MILLRACE_EXPORT(closeHandle), MILLRACE_EXPORT(mapFile),      MILLRACE_EXPORT(packWeight),
      MILLRACE_EXPORT(createProgram), MILLRACE_EXPORT(createCache),  MILLRACE_EXPORT(forward),      MILLRACE_EXPORT(sample),
      MILLRACE_EXPORT(blockBytes),    MILLRACE_EXPORT(readBlocks),   MILLRACE_EXPORT(writeBlocks),
      MILLRACE_EXPORT(describePlan),  MILLRACE_EXPORT(takeProfile),
#undef MILLRACE_EXPORT
  };
  if (napi_define_properties(env, exports, sizeof properties / sizeof *properties, properties) != napi_ok) return nullptr;
  return exports;
}
