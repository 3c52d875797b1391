#include "executor.h"

#include <algorithm>

#include "../common/error.h"
#include "cache.h"
#include "program.h"

namespace millrace::cuda {
namespace {

// The addon makes entries of handles of this device alone.
const Program& programOf(const StepEntry& entry) { return static_cast<const Program&>(*entry.program); }
const Cache& cacheOf(const StepEntry& entry) { return static_cast<const Cache&>(*entry.cache); }

// The arrays of a batch on the device.
struct DeviceBatch {
  const int32_t *tokenIds, *positions, *rowOfToken, *cacheIndex, *visibleEnd, *blockTables, *slotMapping, *logitTokens, *copies, *ancestorStart = nullptr,
                                                                                                                                *ancestorSlots = nullptr;
};

// One entry while it is launched.
class EntryRun {
 public:
  EntryRun(const StepEntry& entry, const ExecutionContext& context)
      : entry_(entry), program_(programOf(entry)), plan_(program_.plan()), b_(entry.batch), c_(context) {}

  void bringBatch(const StepShape& shape, BatchUpload& upload, PinnedBuffer& host) {
    const std::vector<int32_t> rowOfToken = rowsOfTokens();
    const int64_t tokens = b_.numTokens, groups = static_cast<int64_t>(plan_.groups.size());
    upload.begin(host);
    const size_t at[] = {
        upload.add(b_.tokenIds.data, plan_.takesEmbeddings ? 0 : tokens),
        upload.add(b_.positions.data, tokens * plan_.numPositionAxes),
        upload.add(rowOfToken.data(), tokens),
        upload.add(b_.cacheIndex.data, groups > 0 ? tokens : 0),
        upload.add(b_.visibleEnd.data, groups > 0 ? tokens : 0),
        upload.add(b_.blockTables.data, groups * b_.numRows * b_.maxBlocks),
        upload.add(b_.slotMapping.data, groups * tokens),
        upload.add(b_.logitTokens.data, b_.numLogitRows),
        upload.add(b_.copies.data, groups > 0 ? int64_t{4} * b_.numCopies : 0),
    };
    const bool drafts = b_.ancestorStart.data != nullptr && groups > 0;
    const int64_t ancestors = drafts ? b_.ancestorStart.data[tokens] : 0;
    const std::vector<int32_t> tiles = attentionTiles(drafts);
    const size_t tileAt = upload.add(tiles.data(), static_cast<int64_t>(tiles.size()));
    const size_t starts = drafts ? upload.add(b_.ancestorStart.data, tokens + 1) : 0, slots = drafts ? upload.add(b_.ancestorSlots.data, groups * ancestors) : 0;
    upload.send(c_.stream);
    ids_ = upload.mutableAt<int32_t>(at[0]);
    d_ = DeviceBatch{ids_, upload.at(at[1]), upload.at(at[2]), upload.at(at[3]), upload.at(at[4]), upload.at(at[5]), upload.at(at[6]), upload.at(at[7]), upload.at(at[8])};
    if (drafts) {
      d_.ancestorStart = upload.at(starts);
      d_.ancestorSlots = upload.at(slots);
      numAncestors_ = ancestors;
    }
    tiles_ = upload.at(tileAt);
    numTiles_ = static_cast<int32_t>(tiles.size() / 2);
    numSplits_ = shape.numSplits;
    resolvesTokens_ = shape.resolvesTokens;
  }

  // Before anything runs.
  void checkTokens(const StepShape& shape) const {
    const bool fits = program_.vocabSize() == 0 || c_.lastTokens.vocabSize <= program_.vocabSize();
    require(!shape.resolvesTokens || fits, "BACKEND_STEP_FAILED", "Tokens were sampled from a larger vocabulary than this program has.");
  }

  void resolveTokens() const {
    if (resolvesTokens_) resolveIds(ids_, b_.numTokens, c_.lastTokens.ids, c_.stream);
  }

  void copyBlocks() const {
    if (b_.numCopies == 0) return;
    for (int32_t group = 0; group < static_cast<int32_t>(plan_.groups.size()); group++)
      for (int32_t layer = 0; layer < cacheOf(entry_).groups()[static_cast<size_t>(group)].numLayers; layer++)
        kvCopyBlocks(cacheOf(entry_).layer(group, layer), d_.copies, b_.numCopies, group, c_.stream);
  }

  void bringEmbeddings(const std::vector<StepEntry>& entries) const {
    if (!plan_.takesEmbeddings || b_.numTokens == 0) return;
    const Rows to = program_.rows(plan_.inputValue);
    const int32_t width = plan_.values[static_cast<size_t>(plan_.inputValue)].width;
    if (entry_.sourceEntry < 0) {
      c_.stream.upload(to.data, entry_.hostEmbeddings.data, sizeof(float) * static_cast<size_t>(b_.numTokens) * static_cast<size_t>(width));
      return;
    }
    const Program& source = programOf(entries[static_cast<size_t>(entry_.sourceEntry)]);
    copyRows(source.constRows(source.plan().outputs[static_cast<size_t>(entry_.sourceOutput)]), nullptr, to, b_.numTokens, width, c_.stream);
  }

  void launchAll() const {
    resolveTokens();
    for (const PlanNode& node : plan_.nodes) {
      if (c_.stopping.load(std::memory_order_relaxed)) throw Error("ENGINE_CLOSED", "The backend was closed during the step.");
      if (!isIdle(node)) run(node);
    }
  }

  void run(const PlanNode& node) const {
    const Stream& s = c_.stream;
    switch (node.op) {
      case Op::embedding: embedding(d_.tokenIds, matrix(node), node.floatAttr(0), out(node, 0), b_.numTokens, s); break;
      case Op::positionEmbedding:
        positionEmbedding(in(node, 0), d_.positions + int64_t{node.intAttr(0)} * b_.numTokens, matrix(node), out(node, 0), b_.numTokens, s);
        break;
      case Op::linear: runLinear(node); break;
      case Op::rmsNorm:
        rmsNorm(in(node, 0), out(node, 0), rowsOf(node), width(node), node.intAttr(2), vector(node, 0), node.floatAttr(1), node.floatAttr(0), s);
        break;
      case Op::addRmsNorm:
        addRmsNorm(in(node, 0), in(node, 1), out(node, 0), out(node, 1), rowsOf(node), width(node), node.intAttr(2), vector(node, 0), node.floatAttr(1), node.floatAttr(0), s);
        break;
      case Op::layerNorm: layerNorm(in(node, 0), out(node, 0), rowsOf(node), width(node), vector(node, 0), vector(node, 1), node.floatAttr(0), s); break;
      case Op::add: add(in(node, 0), in(node, 1), out(node, 0), rowsOf(node), width(node), s); break;
      case Op::scale: scale(in(node, 0), out(node, 0), rowsOf(node), width(node), node.floatAttr(0), s); break;
      case Op::softCap: softCap(in(node, 0), out(node, 0), rowsOf(node), width(node), node.floatAttr(0), s); break;
      case Op::activation: activation(in(node, 0), out(node, 0), rowsOf(node), width(node), node.intAttr(0), s); break;
      case Op::gatedActivation: gatedActivation(in(node, 0), in(node, 1), out(node, 0), rowsOf(node), width(node), node.intAttr(0), s); break;
      case Op::clampedSwiglu: clampedSwiglu(in(node, 0), in(node, 1), out(node, 0), rowsOf(node), width(node), node.floatAttr(0), node.floatAttr(1), s); break;
      case Op::gatherColumns: gatherColumns(in(node, 0), out(node, 0), rowsOf(node), width(node), program_.constant(node.constants[0]), s); break;
      case Op::rope: rope(ropeArgs(node, 0, out(node, 0)), s); break;
      case Op::kvWrite: kvWrite(kvArgs(node, 0, node.intAttr(0), node.intAttr(1)), s); break;
      case Op::ropeKvWrite: ropeKvWrite(ropeArgs(node, 0, out(node, 0)), ropeArgs(node, 1, Rows{nullptr, 0}), kvArgs(node, 1, node.intAttr(4), node.intAttr(5)), s); break;
      case Op::attention: runAttention(node); break;
      case Op::selectRows: copyRows(in(node, 0), d_.logitTokens, out(node, 0), b_.numLogitRows, width(node), s); break;
      default: copyRows(in(node, 0), nullptr, out(node, 0), rowsOf(node), width(node), s); break;  // collectives of one rank
    }
  }

  bool isIdle(const PlanNode& node) const {
    const bool perLogit = node.op == Op::selectRows || input(node).perLogit;
    return (perLogit ? b_.numLogitRows : b_.numTokens) == 0;
  }

 private:
  ConstRows in(const PlanNode& node, size_t i) const { return program_.constRows(node.inputs[i]); }
  Rows out(const PlanNode& node, size_t i) const { return program_.rows(node.outputs[i]); }
  const PlanValue& input(const PlanNode& node, size_t i = 0) const { return plan_.values[static_cast<size_t>(node.inputs[i])]; }
  int32_t width(const PlanNode& node) const { return input(node).width; }
  int32_t rowsOf(const PlanNode& node) const { return input(node).perLogit ? b_.numLogitRows : b_.numTokens; }
  Matrix matrix(const PlanNode& node) const { return program_.weight(node.weights[0])->matrix(); }
  const float* vector(const PlanNode& node, size_t i) const {
    return i >= node.weights.size() || node.weights[i] < 0 ? nullptr : program_.weight(node.weights[i])->vector();
  }

  std::vector<int32_t> rowsOfTokens() const {
    std::vector<int32_t> rows(static_cast<size_t>(b_.numTokens), 0);
    for (int32_t row = 0; row < b_.numRows; row++) std::fill(rows.begin() + b_.rowStart.data[row], rows.begin() + b_.rowStart.data[row + 1], row);
    return rows;
  }

  // Tokens that attention takes together: neighbours of one row, as many as fit for the plan's narrowest attention. Drafts stay alone.
  std::vector<int32_t> attentionTiles(bool drafts) const {
    int32_t most = INT32_MAX;
    for (const PlanNode& node : plan_.nodes)
      if (node.op == Op::attention) most = std::min(most, attentionTileTokens(node.intAttr(2) / plan_.groups[static_cast<size_t>(node.intAttr(0))].numKvHeads));
    std::vector<int32_t> tiles;
    if (most == INT32_MAX) return tiles;
    if (drafts) most = 1;
    for (int32_t row = 0; row < b_.numRows; row++) {
      const int32_t end = b_.rowStart.data[row + 1];
      for (int32_t t = b_.rowStart.data[row]; t < end; t += most) {
        tiles.push_back(t);
        tiles.push_back(std::min(most, end - t));
      }
    }
    return tiles;
  }

  void runLinear(const PlanNode& node) const {
    LinearArgs args;
    args.x = in(node, 0);
    args.y = out(node, 0);
    args.rows = rowsOf(node);
    args.weight = matrix(node);
    args.bias = vector(node, 1);
    args.activation = static_cast<Activation>(node.intAttr(0));
    args.scratch = program_.linearScratch();
    c_.counters.linearRowClass[args.rows == 1 ? 0 : args.rows <= 8 ? 1 : args.rows <= 64 ? 2 : 3]++;
    c_.counters.linearSegments += static_cast<uint64_t>((args.weight.k + kLinearSegment - 1) / kLinearSegment);
    linear(args, c_.stream);
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
    args.frequencies = program_.constant(node.constants[0]);
    args.positions = d_.positions;
    return args;
  }

  // Inputs `first` and `first + 1` are k and v.
  KvWriteArgs kvArgs(const PlanNode& node, size_t first, int32_t group, int32_t layer) const {
    return KvWriteArgs{in(node, first), in(node, first + 1), b_.numTokens, d_.slotMapping + int64_t{group} * b_.numTokens, cacheOf(entry_).layer(group, layer)};
  }

  void runAttention(const PlanNode& node) const {
    const int32_t group = node.intAttr(0);
    AttentionArgs args;
    args.q = in(node, 0);
    args.out = out(node, 0);
    args.tokens = b_.numTokens;
    args.numHeads = node.intAttr(2);
    args.scale = node.floatAttr(4);
    args.softCap = node.floatAttr(5);
    args.window = node.intAttr(6);
    args.sinks = vector(node, 0);
    args.slopes = node.constants.empty() ? nullptr : program_.constant(node.constants[0]);
    args.cache = cacheOf(entry_).layer(group, node.intAttr(1));
    args.rowOfToken = d_.rowOfToken;
    args.cacheIndex = d_.cacheIndex;
    args.visibleEnd = d_.visibleEnd;
    args.blockTable = d_.blockTables + int64_t{group} * b_.numRows * b_.maxBlocks;
    args.maxBlocks = b_.maxBlocks;
    args.ancestorStart = d_.ancestorStart;
    args.ancestorSlots = d_.ancestorSlots == nullptr ? nullptr : d_.ancestorSlots + int64_t{group} * numAncestors_;
    args.tiles = tiles_;
    args.numTiles = numTiles_;
    args.numSplits = numSplits_;
    args.partials = attentionPartials(args.tokens, args.numHeads, args.cache.headDim, numSplits_) > 0 ? c_.partials : nullptr;
    if (args.partials != nullptr) c_.counters.attentionSplits += static_cast<uint64_t>(numSplits_) * static_cast<uint64_t>(args.tokens) * static_cast<uint64_t>(args.numHeads);
    attention(args, c_.stream);
  }

  const StepEntry& entry_;
  const Program& program_;
  const Plan& plan_;
  const ForwardBatch& b_;
  const ExecutionContext& c_;
  DeviceBatch d_{};
  int64_t numAncestors_ = 0;
  const int32_t* tiles_ = nullptr;
  int32_t* ids_ = nullptr;
  int32_t numTiles_ = 0, numSplits_ = 0;
  bool resolvesTokens_ = false;
};

}  // namespace

int32_t splitsOf(const ForwardBatch& b) {
  int32_t end = 0;
  for (int32_t t = 0; t < b.numTokens; t++) {
    const int32_t ancestors = b.ancestorStart.data == nullptr ? 0 : b.ancestorStart.data[t + 1] - b.ancestorStart.data[t];
    end = std::max(end, b.visibleEnd.data[t] + ancestors);
  }
  return (end + kAttentionSplit - 1) / kAttentionSplit;
}

void runEntry(const std::vector<StepEntry>& entries, size_t index, BatchUpload& upload, PinnedBuffer& host, const ExecutionContext& context) {
  const StepEntry& entry = entries[index];
  const Plan& plan = entry.program->plan();
  const int32_t* ids = entry.batch.tokenIds.data;
  const bool resolves = !plan.takesEmbeddings && std::any_of(ids, ids + entry.batch.numTokens, [](int32_t id) { return id < 0; });
  const StepShape shape{plan.groups.empty() ? 0 : splitsOf(entry.batch), resolves};
  EntryRun run(entry, context);
  run.checkTokens(shape);
  run.bringBatch(shape, upload, host);
  if (entry.cache != nullptr) run.copyBlocks();
  run.bringEmbeddings(entries);
  run.launchAll();
}

void bringEntry(const StepEntry& entry, const StepShape& shape, BatchUpload& upload, PinnedBuffer& host, const ExecutionContext& context) {
  EntryRun run(entry, context);
  run.checkTokens(shape);
  run.bringBatch(shape, upload, host);
}

void recordEntry(const StepEntry& entry, const StepShape& shape, BatchUpload& upload, PinnedBuffer& host, const ExecutionContext& context, std::unique_ptr<Graph>& graph) {
  EntryRun run(entry, context);
  run.bringBatch(shape, upload, host);
  graph = std::make_unique<Graph>(context.stream, [&] { run.launchAll(); });
}

}  // namespace millrace::cuda
