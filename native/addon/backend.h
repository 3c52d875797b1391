// The device that the addon is built for: the exports name its classes through this alone.
#pragma once

#include "../cpu/device.h"

namespace millrace {
namespace backend = cpu;
}
