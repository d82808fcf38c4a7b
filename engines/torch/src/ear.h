// AOTInductor's machine code prints its exceptions to std::cerr and returns a number. Who calls it needs the text, and
// whoever reads the log needs lines that are whole: so a thread may listen to what it prints itself.

#pragma once

#include <string>

// Once, before anybody listens.
void install_ear();

// While one of these lives, what its thread prints to std::cerr comes here and nowhere else.
class Ear {
 public:
  Ear();
  ~Ear();
  Ear(const Ear&) = delete;
  Ear& operator=(const Ear&) = delete;

  // The first message that was heard, without where it came from; empty where nothing was.
  std::string gist() const;

 private:
  std::string heard_;
};
