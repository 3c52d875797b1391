#include "emulator.h"

#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__x86_64__)
// Saves the registers that a call must keep (System V ABI) and the stack pointer in *from, and goes on where `to` was saved. swapcontext would do, but asks
// the kernel for the signal mask each time.
extern "C" void millraceSwitchFiber(void** from, void* to);
asm(R"(
.text
.hidden millraceSwitchFiber
.globl millraceSwitchFiber
.type millraceSwitchFiber, @function
millraceSwitchFiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size millraceSwitchFiber, .-millraceSwitchFiber
)");
#endif

namespace millrace::cuda::emulator {

Index threadIndex, blockIndex, blockSize, gridSize;

namespace {

constexpr size_t kStackBytes = size_t{96} << 10;
constexpr int kWarp = 32;

// What the lanes of a warp show each other. Two of each take turns, so that one barrier an exchange is enough.
struct Exchange {
  uint32_t words[kWarp];
  uint32_t a[kWarp][4], b[kWarp][2];
  const unsigned char* rows[kWarp];
};

struct Warp {
  Exchange exchanges[2];
  int arrived = 0;
  unsigned generation = 0;
};

// Where a fiber, or the scheduler, was left.
#if defined(__x86_64__)
struct Context {
  void* stackPointer = nullptr;
};
void switchTo(Context& from, Context& to) { millraceSwitchFiber(&from.stackPointer, to.stackPointer); }
void prepare(Context& context, unsigned char* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15});
  *--top = nullptr;                             // the return address that entry never uses
  *--top = reinterpret_cast<void*>(entry);
  context.stackPointer = top - 6;               // six registers of any value
}
#else
struct Context {
  ucontext_t state;
};
void switchTo(Context& from, Context& to) { swapcontext(&from.state, &to.state); }
void prepare(Context& context, unsigned char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = bytes;
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
}
#endif

struct Fiber {
  Context context;
  std::unique_ptr<unsigned char[]> stack;
  unsigned turn = 0;  // of the exchanges
  bool done = false;
};

struct Block {
  Context scheduler;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<unsigned char> shared;
  unsigned current = 0, arrived = 0, generation = 0, numThreads = 0;
  void (*body)(void*) = nullptr;
  void* context = nullptr;
};

// One grid runs at a time, whoever asks: shared memory of kernels is static.
Block block;
std::mutex running;

void yield() {
  switchTo(block.fibers[block.current].context, block.scheduler);
}

void runFiber() {
  block.body(block.context);
  block.fibers[block.current].done = true;
  yield();  // and never again
}

// Waits until all `count` participants have come.
template <class Counter>
void await(Counter& arrived, unsigned& generation, unsigned count) {
  const unsigned mine = generation;
  if (static_cast<unsigned>(++arrived) == count) {
    arrived = 0;
    generation++;
    return;
  }
  while (generation == mine) yield();
}

Warp& ownWarp() { return block.warps[block.current / kWarp]; }
unsigned ownLane() { return block.current % kWarp; }

unsigned warpThreads() {
  const unsigned first = block.current / kWarp * kWarp;
  return block.numThreads - first < kWarp ? block.numThreads - first : kWarp;
}

Exchange& nextExchange() { return ownWarp().exchanges[block.fibers[block.current].turn++ % 2]; }

void runBlock() {
  block.arrived = 0;
  for (Warp& warp : block.warps) warp.arrived = 0;
  for (unsigned i = 0; i < block.numThreads; i++) {
    Fiber& fiber = block.fibers[i];
    fiber.done = false;
    fiber.turn = 0;
    prepare(fiber.context, fiber.stack.get(), kStackBytes, runFiber);
  }
  for (unsigned left = block.numThreads, rounds = 0; left > 0; rounds++) {
    if (rounds > 1u << 24) std::abort();  // threads wait for each other at different barriers
    for (unsigned i = 0; i < block.numThreads; i++) {
      if (block.fibers[i].done) continue;
      block.current = i;
      threadIndex = {i, 0, 0};
      switchTo(block.scheduler, block.fibers[i].context);
      if (block.fibers[i].done) left--;
    }
  }
}

float bf16(uint32_t word, int half) {
  const uint32_t bits = half == 0 ? word << 16 : word & 0xffff0000u;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace

unsigned char* dynamicShared() { return block.shared.data() + (128 - reinterpret_cast<uintptr_t>(block.shared.data()) % 128) % 128; }

void syncBlock() { await(block.arrived, block.generation, block.numThreads); }

void syncWarp() { await(ownWarp().arrived, ownWarp().generation, warpThreads()); }

uint32_t shuffle(uint32_t word, int source) {
  Exchange& exchange = nextExchange();
  exchange.words[ownLane()] = word;
  syncWarp();
  return exchange.words[static_cast<unsigned>(source) % kWarp];
}

// As the tensor cores do: products exact, their sum and D rounded about once.
void multiplyTile(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  Exchange& exchange = nextExchange();
  const unsigned lane = ownLane();
  uint32_t* a = exchange.a[lane];
  a[0] = a0, a[1] = a1, a[2] = a2, a[3] = a3;
  exchange.b[lane][0] = b0, exchange.b[lane][1] = b1;
  syncWarp();
  const unsigned g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; i++) {
    const int upper = i / 2;                     // row g or g + 8
    const unsigned column = 2 * t + i % 2;
    double sum = 0;
    for (unsigned k = 0; k < 16; k++) {
      const unsigned quad = k % 8 / 2, half = k % 2, late = k / 8;
      const float x = bf16(exchange.a[4 * g + quad][2 * late + static_cast<unsigned>(upper)], static_cast<int>(half));
      const float w = bf16(exchange.b[4 * column + quad][late], static_cast<int>(half));
      sum += static_cast<double>(x) * static_cast<double>(w);
    }
    d[i] = static_cast<float>(d[i] + sum);
  }
}

void loadTransposed(uint32_t (&words)[4], const void* row) {
  Exchange& exchange = nextExchange();
  const unsigned lane = ownLane();
  exchange.rows[lane] = static_cast<const unsigned char*>(row);
  syncWarp();
  for (unsigned m = 0; m < 4; m++) {
    uint16_t pair[2];
    for (unsigned i = 0; i < 2; i++) std::memcpy(&pair[i], exchange.rows[8 * m + 2 * (lane % 4) + i] + 2 * (lane / 4), 2);
    std::memcpy(&words[m], pair, 4);
  }
}

void run(Index grid, unsigned threads, size_t sharedBytes, void (*body)(void*), void* context) {
  const std::lock_guard<std::mutex> lock(running);
  block.numThreads = threads;
  block.body = body;
  block.context = context;
  while (block.fibers.size() < threads) {
    block.fibers.emplace_back();
    block.fibers.back().stack = std::make_unique<unsigned char[]>(kStackBytes);
  }
  block.warps.resize((threads + kWarp - 1) / kWarp);
  if (block.shared.size() < sharedBytes + 128) block.shared.resize(sharedBytes + 128);
  gridSize = grid;
  blockSize = {threads, 1, 1};
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        blockIndex = {x, y, z};
        std::memset(block.shared.data(), 0xff, block.shared.size());  // NaNs: what nobody wrote shows
        runBlock();
      }
}

}  // namespace millrace::cuda::emulator
