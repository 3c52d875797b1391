// The checks of a step: a wrong index from the host becomes an error here, never a stray read in a kernel. About 1 us a row.
#include <algorithm>
#include <string>

#include "error.h"
#include "step.h"

namespace millrace {
namespace {

void check(bool holds, const char* what) {
  if (!holds) throw Error("BACKEND_STEP_FAILED", std::string("The step is not legal: ") + what + ".");
}

bool inRange(const int32_t* values, int64_t count, int64_t low, int64_t high) {
  int32_t least = count > 0 ? values[0] : 0, most = least;
  for (int64_t i = 1; i < count; i++) {
    least = std::min(least, values[i]);
    most = std::max(most, values[i]);
  }
  return count == 0 || (least >= low && most < high);
}

void checkCounts(const StepEntry& entry) {
  const ForwardBatch& b = entry.batch;
  const ProgramShape& program = *entry.program;
  check(b.numTokens >= 0 && b.numTokens <= program.maxTokens(), "more tokens than the program was compiled for");
  check(b.numLogitRows >= 0 && b.numLogitRows <= program.maxLogitRows(), "more logit rows than the program was compiled for");
  check(b.numRows >= 0 && b.numRows <= b.numTokens && b.maxBlocks >= 0 && b.numCopies >= 0, "its counts contradict each other");
  const int64_t axes = program.plan().numPositionAxes, groups = static_cast<int64_t>(program.plan().groups.size());
  check(program.plan().takesEmbeddings || b.tokenIds.length >= b.numTokens, "tokenIds is too short");
  check(b.positions.length >= axes * b.numTokens, "positions is too short");
  check(b.logitTokens.length >= b.numLogitRows, "logitTokens is too short");
  check(b.numRows == 0 || b.rowStart.length > b.numRows, "rowStart is too short");
  if (groups == 0) return;
  check(b.cacheIndex.length >= b.numTokens && b.visibleEnd.length >= b.numTokens, "cacheIndex or visibleEnd is too short");
  check(b.slotMapping.length >= groups * b.numTokens, "slotMapping is too short");
  check(b.blockTables.length >= groups * b.numRows * b.maxBlocks, "blockTables is too short");
  check(b.copies.length >= int64_t{4} * b.numCopies, "copies is too short");
}

void checkCache(const StepEntry& entry) {
  const auto& wanted = entry.program->plan().groups;
  if (wanted.empty()) return;
  check(entry.cache != nullptr && entry.cache->groups().size() == wanted.size(), "its cache is not one for this program");
  for (size_t g = 0; g < wanted.size(); g++) {
    const CacheGroupSpec& given = entry.cache->groups()[g];
    check(given.numLayers >= wanted[g].numLayers && given.numKvHeads == wanted[g].numKvHeads && given.headDim == wanted[g].headDim && given.isLatent == wanted[g].isLatent,
          "its cache is not one for this program");
  }
}

// Blocks of one row that attention will read: from the first key that any of its tokens sees to the last.
void checkRowBlocks(const ForwardBatch& b, int32_t row, int32_t blockSize, int32_t window, const int32_t* table, int32_t numBlocks) {
  int64_t begin = INT64_MAX, end = 0;
  for (int32_t t = b.rowStart.data[row]; t < b.rowStart.data[row + 1]; t++) {
    const int64_t first = window > 0 ? std::max<int64_t>(0, int64_t{b.cacheIndex.data[t]} + 1 - window) : 0;
    begin = std::min(begin, first);
    end = std::max<int64_t>(end, b.visibleEnd.data[t]);
  }
  if (end <= begin) return;
  const int64_t firstBlock = begin / blockSize, lastBlock = (end + blockSize - 1) / blockSize;
  check(lastBlock <= b.maxBlocks && inRange(table + firstBlock, lastBlock - firstBlock, 0, numBlocks), "a block table names a block that does not exist");
}

void checkAncestors(const ForwardBatch& b, size_t groups, const CacheShape& cache) {
  if (b.ancestorStart.data == nullptr) return;
  check(b.ancestorStart.length > b.numTokens && b.ancestorStart.data[0] >= 0, "ancestors.start is too short");
  for (int32_t t = 0; t < b.numTokens; t++) check(b.ancestorStart.data[t] <= b.ancestorStart.data[t + 1], "ancestors.start falls");
  const int64_t total = b.ancestorStart.data[b.numTokens];
  check(b.ancestorSlots.length >= total * static_cast<int64_t>(groups), "ancestors.slots is too short");
  for (size_t g = 0; g < groups; g++) {
    const int64_t slots = int64_t{cache.groups()[g].numBlocks} * cache.blockSize();
    check(inRange(b.ancestorSlots.data + static_cast<int64_t>(g) * total, total, 0, slots), "an ancestor lies outside the cache");
  }
}

void checkKeys(const StepEntry& entry) {
  const ForwardBatch& b = entry.batch;
  const auto& groups = entry.program->plan().groups;
  if (groups.empty()) return;
  const CacheShape& cache = *entry.cache;
  const int64_t capacity = int64_t{b.maxBlocks} * cache.blockSize();
  check(inRange(b.cacheIndex.data, b.numTokens, 0, INT32_MAX) && inRange(b.visibleEnd.data, b.numTokens, 0, capacity + 1), "a token sees keys beyond its block table");
  // A group's window need not be that of each attention node (some read less): the widest reach of any node of the group decides.
  for (size_t g = 0; g < groups.size(); g++) {
    const int32_t numBlocks = cache.groups()[g].numBlocks;
    check(inRange(b.slotMapping.data + static_cast<int64_t>(g) * b.numTokens, b.numTokens, 0, int64_t{numBlocks} * cache.blockSize()),
          "a slot lies outside the cache");
    const int32_t* tables = b.blockTables.data + static_cast<int64_t>(g) * b.numRows * b.maxBlocks;
    const int32_t window = groups[g].isWindow ? groups[g].window : 0;
    for (int32_t row = 0; row < b.numRows; row++) checkRowBlocks(b, row, cache.blockSize(), window, tables + int64_t{row} * b.maxBlocks, numBlocks);
  }
  checkAncestors(b, groups.size(), cache);
  for (int32_t i = 0; i < b.numCopies; i++) {
    const int32_t* copy = b.copies.data + int64_t{4} * i;
    check(copy[0] >= 0 && static_cast<size_t>(copy[0]) < groups.size() && copy[3] >= 0 && copy[3] <= cache.blockSize(), "a block copy is out of range");
    const int32_t numBlocks = cache.groups()[static_cast<size_t>(copy[0])].numBlocks;
    check(copy[1] >= 0 && copy[1] < numBlocks && copy[2] >= 0 && copy[2] < numBlocks, "a block copy is out of range");
  }
}

// Rows that are compressed: tokens one behind the other, at the end of the keys, and as many keys kept as there are tokens at least.
void checkKept(const StepEntry& entry) {
  const ForwardBatch& b = entry.batch;
  bool compresses = false;
  for (const PlanNode& node : entry.program->plan().nodes) compresses = compresses || node.op == Op::kvCompress;
  if (!compresses) return;
  check(b.kept.length >= int64_t{2} * b.numRows, "it does not say how many keys its rows keep");
  for (int32_t row = 0; row < b.numRows; row++) {
    const int32_t first = b.rowStart.data[row], end = b.rowStart.data[row + 1];
    check(b.kept.data[2 * row] >= end - first && b.kept.data[2 * row + 1] > 0, "a row keeps fewer keys than it has tokens");
    for (int32_t t = first; t < end; t++) {
      const bool isNext = t == first || b.cacheIndex.data[t] == b.cacheIndex.data[t - 1] + 1;
      check(isNext && b.visibleEnd.data[t] == b.cacheIndex.data[t] + 1, "the tokens of a row that is compressed are not one behind the other");
    }
  }
}

// Keys that a rotation reads are looked up at the cache index itself.
void checkRotated(const StepEntry& entry) {
  for (const PlanNode& node : entry.program->plan().nodes) {
    if (node.op != Op::kvRotate) continue;
    for (int32_t t = 0; t < entry.batch.numTokens; t++)
      check(entry.batch.visibleEnd.data[t] == entry.batch.cacheIndex.data[t] + 1, "a token whose key is turned does not see it");
    return;
  }
}

void checkInput(const std::vector<StepEntry>& entries, size_t index, size_t numLastTokens) {
  const StepEntry& entry = entries[index];
  const Plan& plan = entry.program->plan();
  const int32_t numTokens = entry.batch.numTokens;
  if (!plan.takesEmbeddings) {
    const int64_t last = static_cast<int64_t>(numLastTokens);
    check(inRange(entry.batch.tokenIds.data, numTokens, -last, std::max(1, entry.program->vocabSize())),
          "a token id is outside the vocabulary, or refers to a row that the previous step did not sample");
    return;
  }
  const int64_t width = plan.values[plan.inputValue].width;
  if (entry.sourceEntry < 0) {
    check(entry.hostEmbeddings.length >= width * numTokens, "embeddings are missing or too few");
    return;
  }
  check(static_cast<size_t>(entry.sourceEntry) < index, "embeddings come from an entry that has not run");
  const StepEntry& source = entries[static_cast<size_t>(entry.sourceEntry)];
  const Plan& sourcePlan = source.program->plan();
  check(entry.sourceOutput >= 0 && static_cast<size_t>(entry.sourceOutput) < sourcePlan.outputs.size(), "embeddings come from an output that does not exist");
  const PlanValue& value = sourcePlan.values[sourcePlan.outputs[static_cast<size_t>(entry.sourceOutput)]];
  const int32_t rows = value.perLogit ? source.batch.numLogitRows : source.batch.numTokens;
  check(value.width == width && rows == numTokens, "embeddings of an earlier entry have another shape");
  check(source.program != entry.program, "a program cannot take its own output as embeddings within a step");
}

}  // namespace

void checkEntry(const std::vector<StepEntry>& entries, size_t index, size_t numLastTokens) {
  const StepEntry& entry = entries[index];
  const ForwardBatch& b = entry.batch;
  checkCounts(entry);
  checkCache(entry);
  const bool covered = b.numRows == 0 ? b.numTokens == 0 || entry.program->plan().groups.empty() : b.rowStart.data[0] == 0 && b.rowStart.data[b.numRows] == b.numTokens;
  check(covered, "rowStart does not cover the tokens");
  for (int32_t row = 0; row < b.numRows; row++) check(b.rowStart.data[row] <= b.rowStart.data[row + 1], "rowStart falls");
  check(inRange(b.logitTokens.data, b.numLogitRows, 0, b.numTokens), "logitTokens names a token that is not in the step");
  checkKeys(entry);
  checkKept(entry);
  checkRotated(entry);
  checkInput(entries, index, numLastTokens);
}

}  // namespace millrace
