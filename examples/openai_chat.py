"""Ask a question with OpenAI's own client: only the base URL differs.

python examples/openai_chat.py "What is the capital of France?"
"""

import argparse
import sys

from openai import OpenAI


def main() -> None:
    """Print the answer as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="default: %(default)s")
    arguments = parser.parse_args()
    with OpenAI(base_url=arguments.url, api_key="none") as client:
        model = client.models.list().data[0].id
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": arguments.question}],
            max_tokens=128,
            temperature=0,
            stream=True,
        )
        for chunk in stream:
            sys.stdout.write(chunk.choices[0].delta.content or "")
            sys.stdout.flush()
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
