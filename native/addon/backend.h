// The device that the addon is built for: the exports name its classes through this alone, and both have the same members.
#pragma once

#ifdef MILLRACE_CUDA
#include "../cuda/device.h"
namespace millrace {
namespace backend = cuda;
}
#else
#include "../cpu/device.h"
namespace millrace {
namespace backend = cpu;
}
#endif
