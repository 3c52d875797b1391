// The kernel table of one instruction set.
#include "attention.h"
#include "elementwise.h"
#include "kv_cache.h"
#include "linear.h"
#include "linear_table.h"
#include "moe_route.h"
#include "rope.h"

namespace millrace::cpu::MILLRACE_ISA {

#define MILLRACE_TEXT_OF(x) #x
#define MILLRACE_TEXT(x) MILLRACE_TEXT_OF(x)

const KernelTable& kernelTable() {
  static const KernelTable table = {
      MILLRACE_TEXT(MILLRACE_ISA),
      packedBytes,
      packRows,
      kTileOutputs,
      unpackRow,
      linearScratchBytes,
      linear,
      headLinear,
      expertScratchBytes,
      expertTileBytes,
      expertLinear,
      linearName,
      linearSupports,
      moeRoute,
      kvBlockBytes,
      kvWrite,
      latentWrite,
      kvCopyBlock,
      attentionScratchBytes,
      attention,
      rope,
      ropeKvWrite,
      kvRotate,
      kvCompress,
      rmsNorm,
      addRmsNorm,
      add,
      scale,
      softCap,
      gatedActivation,
      activation,
      clampedSwiglu,
      expertCombine,
      layerNorm,
  };
  return table;
}

}  // namespace millrace::cpu::MILLRACE_ISA
