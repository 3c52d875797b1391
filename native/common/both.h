// For arithmetic that runs on the host and in GPU kernels alike.
#pragma once

#ifdef __CUDACC__
#define MILLRACE_BOTH __host__ __device__
#else
#define MILLRACE_BOTH
#endif
