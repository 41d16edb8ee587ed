"""The local AI: an OpenAI-compatible server around llama.cpp, its host and its client."""
