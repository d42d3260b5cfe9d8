curl --request POST \
--url https://api.openpipe.ai/api/v1/chat/completions \
--header 'Authorization: Bearer <token>' \
--header 'Content-Type: application/json' \
--data '{
"messages": [
{
"role": "system",
"content": "<string>",
"name": "<string>"
}
],
"model": "<string>",
"audio": {
"format": "wav",
"voice": "alloy"
},
"function_call": "none",
"functions": [
{
"name": "<string>",
"parameters": {},
"description": "<string>",
"strict": true
}
],
"tool_choice": "none",
"tools": [
{
"function": {
"name": "<string>",
"parameters": {},
"description": "<string>",
"strict": true
},
"type": "function"
}
],
"n": 123,
"max_tokens": 123,
"max_completion_tokens": 123,
"temperature": 123,
"top_p": 123,
"presence_penalty": 123,
"frequency_penalty": 123,
"stop": "<string>",
"response_format": {
"type": "text"
},
"logprobs": true,
"top_logprobs": 123,
"stream_options": {
"include_usage": true
},
"store": true,
"metadata": {},
"stream": false
}'
