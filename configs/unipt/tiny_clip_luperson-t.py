# Uniform masking (EM) on pseudo texts of 2,000 procedural people: configs/captioning/tiny_ts-qwen.py on other captions of
# the same pictures. configs/unipt/README.md says how they get into data/people, or $PEOPLE_ROOT.
_base_ = ['../captioning/tiny_all.py']
train_dataloader = dict(
    dataset=dict(type='LUPersonT', data_root='{{$PEOPLE_ROOT:data/people}}/LUPerson-T'))
