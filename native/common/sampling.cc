#include "sampling.h"

#include <algorithm>

#include "error.h"

namespace millrace {

void checkSampling(const SamplingColumns& c) {
  for (int32_t row = 0; row < c.numRows; row++) {
    const bool history = c.historyStart[row] >= 0 && c.historyStart[row] <= c.historyStart[row + 1] && c.historyStart[row + 1] <= c.historyLength;
    const bool bias = c.biasStart[row] >= 0 && c.biasStart[row] <= c.biasStart[row + 1] && c.biasStart[row + 1] <= c.biasLength;
    const bool wanted = c.wantedStart[row] >= 0 && c.wantedStart[row] <= c.wantedStart[row + 1] && c.wantedStart[row + 1] <= c.wantedLength;
    require(history && bias && wanted, "BACKEND_STEP_FAILED", "The sampling batch has ranges outside its arrays.");
    const bool numbers = c.temperature[row] >= 0 && c.topP[row] >= 0 && c.minP[row] >= 0 && c.numLogprobs[row] >= -1 && c.numLogprobs[row] <= 1024;
    require(numbers, "BACKEND_STEP_FAILED", "The sampling batch has parameters out of range.");
    require(c.historyPrompt[row] >= 0 && c.historyPrompt[row] <= c.historyStart[row + 1] - c.historyStart[row], "BACKEND_STEP_FAILED",
            "The sampling batch says that more of a history is prompt than there is.");
  }
}

int32_t maxTopLogprobs(const SamplingColumns& c) {
  int32_t most = 0;
  for (int32_t row = 0; row < c.numRows; row++)
    if (c.numLogprobs[row] >= 0) most = std::max(most, c.numLogprobs[row] + c.wantedStart[row + 1] - c.wantedStart[row]);
  return most;
}

}  // namespace millrace
