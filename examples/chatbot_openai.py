"""The official OpenAI client against the service (`pip install openai`).

make serve
python examples/chatbot_openai.py http://127.0.0.1:8000
"""

import sys

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam


def main(address: str) -> None:
    client = OpenAI(base_url=f"{address}/v1", api_key="none-is-asked-for-by-default")
    print("models:", ", ".join(model.id for model in client.models.list()))

    names = client.completions.create(
        model="dinosaurs", prompt="Tyr", n=3, seed=7, extra_body={"top_k": 8}
    )
    print("names:", ", ".join(f"Tyr{choice.text}" for choice in names.choices))

    messages: list[ChatCompletionMessageParam] = []
    for question in ("hello!", "what did stegosaurus eat?", "when did it live?"):
        messages.append({"role": "user", "content": question})
        with client.chat.completions.stream(model="rex", messages=messages, seed=7) as stream:
            print(f"you> {question}\nrex> ", end="")
            for event in stream:
                if event.type == "content.delta":
                    print(event.delta, end="", flush=True)
            print()
            reply = stream.get_final_completion().choices[0].message.content or ""
        messages.append({"role": "assistant", "content": reply})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
