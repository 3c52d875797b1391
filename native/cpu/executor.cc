#include "executor.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "../common/error.h"
#include "check_plan.h"

namespace millrace::cpu {
namespace {

// The addon makes entries of handles of this device alone.
const Program& programOf(const StepEntry& entry) { return static_cast<const Program&>(*entry.program); }
const Cache& cacheOf(const StepEntry& entry) { return static_cast<const Cache&>(*entry.cache); }

// One entry while it runs.
class EntryRun {
 public:
  EntryRun(const StepEntry& entry, const ExecutionContext& context) : entry_(entry), program_(programOf(entry)), plan_(entry.program->plan()), b_(entry.batch), c_(context) {}

  void copyBlocks() {
    for (int32_t i = 0; i < b_.numCopies; i++) {
      const int32_t* copy = b_.copies.data + int64_t{4} * i;
      const int32_t group = copy[0];
      const int32_t numLayers = entry_.cache->groups()[static_cast<size_t>(group)].numLayers;
      c_.pool.parallel(numLayers, [&](int64_t layer, int) {
        c_.kernels.kvCopyBlock(cacheOf(entry_).layer(group, static_cast<int32_t>(layer)), copy[1], copy[2], copy[3]);
      });
    }
  }

  void bringTokenIds() {
    int32_t* ids = program_.tokenIds();
    for (int32_t t = 0; t < b_.numTokens; t++) {
      const int32_t id = b_.tokenIds.data[t];
      ids[t] = id >= 0 ? id : c_.lastTokens[static_cast<size_t>(-1 - id)];
      require(ids[t] < program_.vocabSize() || program_.vocabSize() == 0, "BACKEND_STEP_FAILED", "A sampled token is outside the vocabulary of this program.");
    }
  }

  void bringEmbeddings(ConstRows source) {
    copyRows(source, program_.rows(plan_.inputValue), b_.numTokens, plan_.values[plan_.inputValue].width);
  }

  void run(const PlanNode& node) {
    switch (node.op) {
      case Op::embedding: embedding(node); break;
      case Op::linear:
      case Op::headLinear: linear(node); break;
      case Op::rmsNorm:
        c_.kernels.rmsNorm(in(node, 0), out(node, 0), rowsOf(node), width(node), node.intAttr(2), vector(node, 0), node.floatAttr(1), node.floatAttr(0), c_.pool);
        break;
      case Op::addRmsNorm:
        c_.kernels.addRmsNorm(in(node, 0), in(node, 1), out(node, 0), out(node, 1), rowsOf(node), width(node), node.intAttr(2), vector(node, 0),
                              node.floatAttr(1), node.floatAttr(0), c_.pool);
        break;
      case Op::add: c_.kernels.add(in(node, 0), in(node, 1), out(node, 0), rowsOf(node), width(node), c_.pool); break;
      case Op::scale: c_.kernels.scale(in(node, 0), out(node, 0), rowsOf(node), width(node), node.floatAttr(0), c_.pool); break;
      case Op::softCap: c_.kernels.softCap(in(node, 0), out(node, 0), rowsOf(node), width(node), node.floatAttr(0), c_.pool); break;
      case Op::gatedActivation:
        c_.kernels.gatedActivation(in(node, 0), in(node, 1), out(node, 0), rowsOf(node), width(node), node.intAttr(0), c_.pool);
        break;
      case Op::layerNorm:
        c_.kernels.layerNorm(in(node, 0), out(node, 0), rowsOf(node), width(node), vector(node, 0), vector(node, 1), node.floatAttr(0), c_.pool);
        break;
      case Op::moeRoute: moeRoute(node); break;
      case Op::expertLinear: expertLinear(node); break;
      case Op::expertCombine:
        c_.kernels.expertCombine(in(node, 0), in(node, 1), out(node, 0), rowsOf(node), width(node) / input(node, 1).width, input(node, 1).width, c_.pool);
        break;
      case Op::clampedSwiglu:
        c_.kernels.clampedSwiglu(in(node, 0), in(node, 1), out(node, 0), rowsOf(node), width(node), node.floatAttr(0), node.floatAttr(1), c_.pool);
        break;
      case Op::activation: c_.kernels.activation(in(node, 0), out(node, 0), rowsOf(node), width(node), node.intAttr(0), c_.pool); break;
      case Op::positionEmbedding: positionEmbedding(node); break;
      case Op::gatherColumns: gatherColumns(node); break;
      case Op::rope: c_.kernels.rope(ropeArgs(node, 0, out(node, 0)), c_.pool); break;
      case Op::kvWrite: c_.kernels.kvWrite(kvArgs(node, 0, node.intAttr(0), node.intAttr(1)), c_.pool); break;
      case Op::ropeKvWrite:
        c_.kernels.ropeKvWrite(ropeArgs(node, 0, out(node, 0)), ropeArgs(node, 1, Rows{nullptr, 0}), kvArgs(node, 1, node.intAttr(4), node.intAttr(5)),
                               c_.pool);
        break;
      case Op::latentWrite: latentWrite(node); break;
      case Op::kvRotate: kvRotate(node); break;
      case Op::kvCompress: kvCompress(node); break;
      case Op::attention:
      case Op::latentAttention: attention(node); break;
      case Op::selectRows: selectRows(node); break;
      default: copyRows(in(node, 0), out(node, 0), rowsOf(node), width(node)); break;  // collectives of one rank
    }
  }

 private:
  ConstRows in(const PlanNode& node, size_t i) const { return program_.constRows(node.inputs[i]); }
  Rows out(const PlanNode& node, size_t i) const { return program_.rows(node.outputs[i]); }
  const PlanValue& input(const PlanNode& node, size_t i = 0) const { return plan_.values[static_cast<size_t>(node.inputs[i])]; }
  int32_t width(const PlanNode& node) const { return input(node).width; }
  int32_t rowsOf(const PlanNode& node) const { return input(node).perLogit ? b_.numLogitRows : b_.numTokens; }

  const float* vector(const PlanNode& node, size_t i) const {
    if (i >= node.weights.size() || node.weights[i] < 0) return nullptr;
    return program_.weight(node.weights[i])->vector();
  }

  void copyRows(ConstRows from, Rows to, int32_t rows, int32_t width) {
    if (from.data == to.data) return;
    constexpr int64_t kRowsPerTile = 16;
    c_.pool.parallel((rows + kRowsPerTile - 1) / kRowsPerTile, [&](int64_t tile, int) {
      const int64_t end = std::min<int64_t>(rows, (tile + 1) * kRowsPerTile);
      for (int64_t r = tile * kRowsPerTile; r < end; r++) std::memcpy(to.data + r * to.stride, from.data + r * from.stride, sizeof(float) * static_cast<size_t>(width));
    });
  }

  void embedding(const PlanNode& node) {
    const int32_t* ids = program_.tokenIds();  // the check of the plan says that it is the input
    const PackedMatrix& table = program_.weight(node.weights[0])->matrix();
    const Rows y = out(node, 0);
    const float factor = node.floatAttr(0);
    constexpr int64_t kRowsPerTile = 8;
    c_.pool.parallel((b_.numTokens + kRowsPerTile - 1) / kRowsPerTile, [&](int64_t tile, int) {
      const int64_t end = std::min<int64_t>(b_.numTokens, (tile + 1) * kRowsPerTile);
      for (int64_t t = tile * kRowsPerTile; t < end; t++) {
        float* row = y.data + t * y.stride;
        c_.kernels.unpackRow(table, ids[t], row);
        if (factor != 1.0f)
          for (int32_t i = 0; i < table.k; i++) row[i] *= factor;
      }
    });
  }

  void positionEmbedding(const PlanNode& node) {
    const PackedMatrix& table = program_.weight(node.weights[0])->matrix();
    const ConstRows x = in(node, 0);
    const Rows y = out(node, 0);
    const int32_t* positions = b_.positions.data + int64_t{node.intAttr(0)} * b_.numTokens;
    c_.pool.parallel(b_.numTokens, [&](int64_t t, int) {
      const float* from = x.data + t * x.stride;
      float* to = y.data + t * y.stride;
      c_.kernels.unpackRow(table, std::max(0, std::min(positions[t], table.n - 1)), to);
      for (int32_t i = 0; i < table.k; i++) to[i] += from[i];
    });
  }

  void gatherColumns(const PlanNode& node) {
    const std::vector<float>& order = program_.plan().constants[static_cast<size_t>(node.constants[0])];
    const ConstRows x = in(node, 0);
    const Rows y = out(node, 0);
    c_.pool.parallel(rowsOf(node), [&](int64_t t, int) {
      const float* from = x.data + t * x.stride;
      float* to = y.data + t * y.stride;
      for (size_t i = 0; i < order.size(); i++) to[i] = from[static_cast<int32_t>(order[i])];
    });
  }

  void linear(const PlanNode& node) {
    LinearArgs args;
    args.x = in(node, 0);
    args.y = out(node, 0);
    args.rows = rowsOf(node);
    args.weight = &program_.weight(node.weights[0])->matrix();
    args.bias = vector(node, 1);
    args.activation = static_cast<Activation>(node.intAttr(node.op == Op::linear ? 0 : 1));
    args.scratch = program_.linearScratch();
    args.counters = &c_.counters;
    args.plantedOrderFault = c_.plantedOrderFault;
    args.next = program_.nextLinear(node);
    if (node.op == Op::linear) c_.kernels.linear(args, c_.pool);
    else c_.kernels.headLinear(args, node.intAttr(0), c_.pool);
  }

  void moeRoute(const PlanNode& node) {
    MoeRouteArgs args;
    args.logits = in(node, 0);
    const Rows ids = out(node, 0);
    args.ids = reinterpret_cast<int32_t*>(ids.data);
    args.idStride = ids.stride;
    args.weights = out(node, 1);
    args.rows = rowsOf(node);
    args.experts = width(node);
    args.slots = plan_.values[static_cast<size_t>(node.outputs[0])].width;
    args.bias = vector(node, 0);
    args.isSigmoid = node.intAttr(0) == 1;
    args.normalise = node.intAttr(1) == 1;
    args.groups = node.intAttr(2);
    args.keptGroups = node.intAttr(3);
    args.bestTwo = node.intAttr(4) == 1;
    args.scale = node.floatAttr(5);
    c_.kernels.moeRoute(args, c_.pool);
  }

  void expertLinear(const PlanNode& node) {
    const Weight& weight = *program_.weight(node.weights[0]);
    const ConstRows ids = in(node, 1);
    Rows outputs[kMaxExpertOutputs];
    int32_t widths[kMaxExpertOutputs];
    ExpertLinearArgs args;
    args.x = in(node, 0);
    args.slotStride = width(node) == weight.shape().columns ? 0 : weight.shape().columns;
    args.ids = reinterpret_cast<const int32_t*>(ids.data);
    args.idStride = ids.stride;
    args.rows = rowsOf(node);
    args.slots = input(node, 1).width;
    args.experts = node.intAttr(1);
    args.matrices = weight.matrices();
    args.stored = weight.stored();
    args.runs = weight.runsPerMatrix();
    args.tileScratch = program_.expertTileScratch();
    args.bias = vector(node, 1);
    args.activation = static_cast<Activation>(node.intAttr(0));
    args.numOutputs = static_cast<int32_t>(node.outputs.size());
    for (size_t i = 0; i < node.outputs.size(); i++) {
      outputs[i] = out(node, i);
      widths[i] = plan_.values[static_cast<size_t>(node.outputs[i])].width / args.slots;
    }
    args.outputs = outputs;
    args.widths = widths;
    args.scratch = program_.linearScratch();
    args.counters = &c_.counters;
    c_.kernels.expertLinear(args, c_.pool);
  }

  RopeArgs ropeArgs(const PlanNode& node, size_t i, Rows y) const {
    RopeArgs args;
    args.x = in(node, i);
    args.y = y;
    args.tokens = b_.numTokens;
    args.width = input(node, i).width;
    args.headDim = node.intAttr(0);
    args.rotaryDim = node.intAttr(1);
    args.interleaved = node.intAttr(2) == 1;
    args.magnitude = node.floatAttr(3);
    args.frequencies = plan_.constants[static_cast<size_t>(node.constants[0])].data();
    args.positions = b_.positions.data;
    return args;
  }

  // Inputs `first` and `first + 1` are k and v.
  KvWriteArgs kvArgs(const PlanNode& node, size_t first, int32_t group, int32_t layer) const {
    KvWriteArgs args;
    args.k = in(node, first);
    args.v = in(node, first + 1);
    args.tokens = b_.numTokens;
    args.slotMapping = b_.slotMapping.data + int64_t{group} * b_.numTokens;
    args.cache = cacheOf(entry_).layer(group, layer);
    return args;
  }

  void latentWrite(const PlanNode& node) {
    LatentWriteArgs args;
    args.latent = in(node, 0);
    args.key = in(node, 1);
    args.tokens = b_.numTokens;
    args.rank = input(node).width;
    args.slotMapping = b_.slotMapping.data + int64_t{node.intAttr(0)} * b_.numTokens;
    args.cache = cacheOf(entry_).layer(node.intAttr(0), node.intAttr(1));
    c_.kernels.latentWrite(args, c_.pool);
  }

  void kvRotate(const PlanNode& node) {
    const int32_t group = node.intAttr(0);
    KvRotateArgs args;
    args.cache = cacheOf(entry_).layer(group, node.intAttr(1));
    args.turn = RopeArgs{};
    args.turn.headDim = args.cache.headDim;
    args.turn.rotaryDim = node.intAttr(2);
    args.turn.interleaved = node.intAttr(3) == 1;
    args.turn.magnitude = 1.0f;
    args.turn.frequencies = plan_.constants[static_cast<size_t>(node.constants[0])].data();
    args.turn.positions = b_.positions.data;
    args.tokens = b_.numTokens;
    args.rowStart = b_.rowStart.data;
    args.cacheIndex = b_.cacheIndex.data;
    args.blockTable = b_.blockTables.data + int64_t{group} * b_.numRows * b_.maxBlocks;
    args.maxBlocks = b_.maxBlocks;
    args.slotMapping = b_.slotMapping.data + int64_t{group} * b_.numTokens;
    c_.kernels.kvRotate(args, c_.pool);
  }

  void kvCompress(const PlanNode& node) {
    const int32_t group = node.intAttr(0);
    KvCompressArgs args;
    args.q = in(node, 0);
    args.rows = b_.numRows;
    args.numHeads = node.intAttr(2);
    args.scale = node.floatAttr(4);
    args.softCap = node.floatAttr(5);
    args.kept = b_.kept.data;
    args.rowStart = b_.rowStart.data;
    args.cacheIndex = b_.cacheIndex.data;
    args.blockTable = b_.blockTables.data + int64_t{group} * b_.numRows * b_.maxBlocks;
    args.maxBlocks = b_.maxBlocks;
    args.cache = cacheOf(entry_).layer(group, node.intAttr(1));
    c_.kernels.kvCompress(args, c_.pool);
  }

  void attention(const PlanNode& node) {
    const bool isLatent = node.op == Op::latentAttention;
    const int32_t group = node.intAttr(0);
    AttentionArgs args;
    args.q = in(node, 0);
    args.out = out(node, 0);
    args.tokens = b_.numTokens;
    args.rows = b_.numRows;
    args.numHeads = node.intAttr(2);
    args.scale = node.floatAttr(isLatent ? 3 : 4);
    args.softCap = isLatent ? 0.0f : node.floatAttr(5);
    args.window = isLatent ? 0 : node.intAttr(6);
    args.roundsToBf16 = !isLatent && node.intAttr(7) == 1;
    if (isLatent) {
      args.qRotary = in(node, 1);
      args.rank = input(node).width / args.numHeads;
    }
    args.sinks = vector(node, 0);
    args.slopes = node.constants.empty() ? nullptr : plan_.constants[static_cast<size_t>(node.constants[0])].data();
    args.cache = cacheOf(entry_).layer(group, node.intAttr(1));
    args.rowStart = b_.rowStart.data;
    args.cacheIndex = b_.cacheIndex.data;
    args.visibleEnd = b_.visibleEnd.data;
    args.blockTable = b_.blockTables.data + int64_t{group} * b_.numRows * b_.maxBlocks;
    args.maxBlocks = b_.maxBlocks;
    args.ancestorStart = b_.ancestorStart.data;
    args.ancestorSlots = b_.ancestorStart.data == nullptr ? nullptr : b_.ancestorSlots.data + int64_t{group} * b_.ancestorStart.data[b_.numTokens];
    args.scratch = program_.attentionScratch();
    args.counters = &c_.counters;
    c_.kernels.attention(args, c_.pool);
  }

  void selectRows(const PlanNode& node) {
    const ConstRows x = in(node, 0);
    const Rows y = out(node, 0);
    const size_t bytes = sizeof(float) * static_cast<size_t>(width(node));
    for (int32_t i = 0; i < b_.numLogitRows; i++) std::memcpy(y.data + i * y.stride, x.data + int64_t{b_.logitTokens.data[i]} * x.stride, bytes);
  }

 public:
  void runTimed(const PlanNode& node, Profile& profile) {
    const auto start = std::chrono::steady_clock::now();
    const int64_t waited = c_.pool.waitNanoseconds();
    run(node);
    const auto elapsed = std::chrono::steady_clock::now() - start;
    profile.add(static_cast<size_t>(&node - plan_.nodes.data()), std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count(), c_.pool.waitNanoseconds() - waited);
  }

  bool isIdle(const PlanNode& node) const {
    const bool perLogit = node.op == Op::selectRows || input(node).perLogit;
    return (perLogit ? b_.numLogitRows : b_.numTokens) == 0;
  }

 private:
  const StepEntry& entry_;
  const Program& program_;
  const Plan& plan_;
  const ForwardBatch& b_;
  const ExecutionContext& c_;
};

}  // namespace

void runEntry(const std::vector<StepEntry>& entries, size_t index, const ExecutionContext& context) {
  const StepEntry& entry = entries[index];
  EntryRun run(entry, context);
  const Plan& plan = entry.program->plan();
  if (entry.cache != nullptr) run.copyBlocks();
  if (!plan.takesEmbeddings) {
    run.bringTokenIds();
  } else if (entry.sourceEntry >= 0) {
    const Program& source = programOf(entries[static_cast<size_t>(entry.sourceEntry)]);
    run.bringEmbeddings(source.constRows(source.plan().outputs[static_cast<size_t>(entry.sourceOutput)]));
  } else {
    run.bringEmbeddings(ConstRows{entry.hostEmbeddings.data, plan.values[plan.inputValue].width});
  }
  Profile& profile = entry.program->profile();
  for (const PlanNode& node : plan.nodes) {
    if (context.stopping.load(std::memory_order_relaxed)) throw Error("ENGINE_CLOSED", "The backend was closed during the step.");
    if (run.isIdle(node)) continue;
    if (profile.isOn()) run.runTimed(node, profile);
    else run.run(node);
  }
}

}  // namespace millrace::cpu
