curl -X POST https://api.pinstripes.io/v1/chat/completions \
-H "Authorization: Bearer sk-ps-..." \
-H "Content-Type: application/json" \
-d '{
"model": "ps/qwen3.6-35b-a3b",
"messages": [
{"role": "system", "content": "You are a helpful assistant."},
{"role": "user", "content": "What is prefix caching?"}
],
"temperature": 0.7
}'
