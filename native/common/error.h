// The one exception of the native side. `code` is a row of the table in src/base/errors.ts; the addon turns it into a JavaScript error.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace millrace {

class Error : public std::exception {
 public:
  Error(const char* code, std::string message) : code_(code), message_(std::move(message)) {}
  const char* code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  const char* code_;  // a literal
  std::string message_;
};

// For what the TypeScript side promised to have checked: still never a crash.
inline void require(bool condition, const char* code, const char* message) {
  if (!condition) throw Error(code, message);
}

}  // namespace millrace
