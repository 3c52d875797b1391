#include "step_recordings.h"

#include <algorithm>

#include "../common/error.h"
#include "program.h"

namespace millrace::cuda {
namespace {

// A batch of `rows` rows of one token, in arrays of its own.
struct PaddedBatch {
  ForwardBatch batch;
  std::vector<int32_t> tokenIds, positions, rowStart, cacheIndex, visibleEnd, blockTables, slotMapping, logitTokens;
};

template <class T>
Span<T> spanOf(const std::vector<T>& values) {
  return Span<T>{values.data(), static_cast<int64_t>(values.size())};
}

// Rows beyond those of `from` see no keys and have no slot. `blocks`: of a row, for any context of the recording.
void pad(const ForwardBatch& from, int64_t groups, int64_t axes, int32_t rows, int32_t blocks, PaddedBatch& to) {
  const size_t n = static_cast<size_t>(rows);
  const auto copied = [&](const Span<int32_t>& source, int64_t parts, int32_t fill, std::vector<int32_t>& out) {
    out.assign(n * static_cast<size_t>(parts), fill);
    for (int64_t p = 0; p < parts; p++) std::copy_n(source.data + p * from.numTokens, from.numTokens, out.begin() + p * rows);
  };
  copied(from.tokenIds, 1, 0, to.tokenIds);
  copied(from.positions, axes, 0, to.positions);
  copied(from.cacheIndex, 1, 0, to.cacheIndex);
  copied(from.visibleEnd, 1, 0, to.visibleEnd);
  copied(from.slotMapping, groups, -1, to.slotMapping);
  to.blockTables.assign(n * static_cast<size_t>(groups * blocks), -1);
  const int32_t shared = std::min(blocks, from.maxBlocks);
  for (int64_t group = 0; group < groups; group++)
    for (int32_t row = 0; row < from.numRows; row++)
      std::copy_n(from.blockTables.data + (group * from.numRows + row) * from.maxBlocks, shared, to.blockTables.begin() + (group * rows + row) * blocks);
  to.rowStart.resize(n + 1);
  to.logitTokens.resize(n);
  for (int32_t row = 0; row <= rows; row++) to.rowStart[static_cast<size_t>(row)] = row;
  for (int32_t row = 0; row < rows; row++) to.logitTokens[static_cast<size_t>(row)] = row;
  ForwardBatch& b = to.batch;
  b.numTokens = b.numRows = b.numLogitRows = rows;
  b.maxBlocks = blocks;
  b.tokenIds = spanOf(to.tokenIds);
  b.positions = spanOf(to.positions);
  b.rowStart = spanOf(to.rowStart);
  b.cacheIndex = spanOf(to.cacheIndex);
  b.visibleEnd = spanOf(to.visibleEnd);
  b.blockTables = spanOf(to.blockTables);
  b.slotMapping = spanOf(to.slotMapping);
  b.logitTokens = spanOf(to.logitTokens);
}

bool isOneTokenARow(const StepEntry& entry) {
  const ForwardBatch& b = entry.batch;
  if (b.numTokens == 0 || b.numTokens != b.numRows || b.numLogitRows != b.numRows || b.numCopies != 0 || entry.cache == nullptr) return false;
  if (b.ancestorStart.data != nullptr || b.kept.data != nullptr || entry.program->plan().takesEmbeddings) return false;
  for (int32_t row = 0; row < b.numRows; row++)
    if (b.logitTokens.data[row] != row || b.rowStart.data[row] != row) return false;
  return true;
}

int32_t blocksOf(int32_t numSplits, const CacheShape& cache) { return numSplits * kAttentionSplit / cache.blockSize(); }

}  // namespace

int32_t StepRecordings::record(const std::shared_ptr<const ProgramShape>& program, const std::shared_ptr<const CacheShape>& cache, int32_t numTokens, int32_t maxContext,
                               const ExecutionContext& context) {
  require(numTokens > 0 && numTokens <= program->maxTokens() && numTokens <= program->maxLogitRows() && maxContext > 0, "CONFIG_INVALID", "There are no steps of so many rows to record.");
  const Plan& plan = program->plan();
  if (plan.takesEmbeddings || plan.groups.empty()) return 0;
  if (cache_.lock() != cache) recordings_.clear();
  cache_ = cache;
  const int32_t most = (maxContext + kAttentionSplit - 1) / kAttentionSplit;
  PinnedBuffer host;
  for (int32_t numSplits = 1;; numSplits *= 2) {
    PaddedBatch padded;
    const ForwardBatch none;
    pad(none, static_cast<int64_t>(plan.groups.size()), plan.numPositionAxes, numTokens, blocksOf(numSplits, *cache), padded);
    Recording& recording = recordings_[{numTokens, numSplits}];
    recording.upload = std::make_unique<BatchUpload>();
    const StepEntry entry{program, cache, padded.batch, {}, -1, -1};
    recordEntry(entry, StepShape{numSplits, true}, *recording.upload, host, context, recording.graph);
    context.stream.synchronize();  // `host` is used again
    if (numSplits >= most) break;
  }
  return static_cast<int32_t>(recordings_.size());
}

bool StepRecordings::replay(const StepEntry& entry, PinnedBuffer& host, const ExecutionContext& context) const {
  if (recordings_.empty() || cache_.lock() != entry.cache || !isOneTokenARow(entry)) return false;
  const int32_t numSplits = splitsOf(entry.batch);
  // keys are in the order of rows: the first with enough of them, and of those the first with enough splits
  auto found = recordings_.lower_bound(Key{entry.batch.numTokens, 0});
  if (found == recordings_.end()) return false;
  found = recordings_.lower_bound(Key{found->first.first, numSplits});
  if (found == recordings_.end() || found->first.first < entry.batch.numTokens) return false;
  const auto [rows, splits] = found->first;
  const Plan& plan = entry.program->plan();
  thread_local PaddedBatch padded;  // its arrays are used again
  pad(entry.batch, static_cast<int64_t>(plan.groups.size()), plan.numPositionAxes, rows, blocksOf(splits, *entry.cache), padded);
  const StepEntry step{entry.program, entry.cache, padded.batch, {}, -1, -1};
  bringEntry(step, StepShape{splits, true}, *found->second.upload, host, context);
  found->second.graph->launch(context.stream);
  context.replayedSteps++;
  return true;
}

bool replayStep(const std::vector<StepEntry>& entries, std::vector<PinnedBuffer>& hosts, const ExecutionContext& context) {
  return entries.size() == 1 && static_cast<const Program&>(*entries[0].program).recordings().replay(entries[0], hosts[0], context);
}

}  // namespace millrace::cuda
