#include "ear.h"

#include <iostream>
#include <streambuf>

namespace {

thread_local std::string* listening = nullptr;

// Passes on what nobody listens to.
class Switch final : public std::streambuf {
 public:
  explicit Switch(std::streambuf* out) : out_(out) {}

 protected:
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    if (listening == nullptr) return out_->sputn(text, size);
    listening->append(text, static_cast<size_t>(size));
    return size;
  }

  int_type overflow(int_type character) override {
    if (traits_type::eq_int_type(character, traits_type::eof())) return traits_type::not_eof(character);
    const char text = traits_type::to_char_type(character);
    return xsputn(&text, 1) == 1 ? character : traits_type::eof();
  }

  int sync() override { return listening == nullptr ? out_->pubsync() : 0; }

 private:
  std::streambuf* out_;
};

// What is between `from` and `to` in `text`; to its end where there is no `to`.
bool between(const std::string& text, const char* from, const char* to, std::string& found) {
  const auto start = text.find(from);
  if (start == std::string::npos) return false;
  const auto first = start + std::char_traits<char>::length(from);
  const auto end = text.find(to, first);
  found = text.substr(first, end == std::string::npos ? std::string::npos : end - first);
  return true;
}

}  // namespace

void install_ear() {
  // Never destroyed: libraries print to the end.
  static Switch* const installed = new Switch(std::cerr.rdbuf());
  std::cerr.rdbuf(installed);
}

Ear::Ear() { listening = &heard_; }

Ear::~Ear() { listening = nullptr; }

std::string Ear::gist() const {
  std::string found;
  // An operator of libtorch failed, and what called it says so once more; or the code itself objected.
  if (!between(heard_, "Exception in aoti_torch: ", "\nException raised from", found))
    between(heard_, "Error: ", "\nException raised from", found);
  return found.substr(0, found.find_last_not_of(" \n") + 1);
}
